// Which kernels this machine can run, and whether they compute what the portable ones do.
#pragma once

#include <string>
#include <vector>

#include "kernels.hpp"

namespace cipherlens {

// Names of the kernels this machine can run, fastest first; "portable" is always among them.
std::vector<std::string> available_kernels();

// The kernels of that name after a check against the portable ones on fixed vectors.
// Throws std::runtime_error when the machine cannot run them or the check fails.
const Kernels& checked_kernels(const std::string& name);

}  // namespace cipherlens
