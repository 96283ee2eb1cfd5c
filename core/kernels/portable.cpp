// One lane, for every machine.
#include "kernels.hpp"

namespace cipherlens::portable {

#include "lanes_portable.hpp"

#include "kernels_body.hpp"

}  // namespace cipherlens::portable

const cipherlens::Kernels& cipherlens::portable_kernels() {
    static constexpr Kernels table = CIPHERLENS_KERNEL_TABLE(cipherlens::portable, "portable");
    return table;
}
