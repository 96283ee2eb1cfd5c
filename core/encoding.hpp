// Complex slots to real coefficients and back: the canonical embedding of CKKS (Cheon, Kim, Kim, Song 2017).
//
// Slot j holds the value at zeta^(5^j), zeta = exp(pi i / n). The transform is a negacyclic FFT of size n/2 on
// u_k = m_k + i m_{k + n/2}, with the twist merged into the twiddles. Only IEEE additions and products in one fixed
// order and a twiddle table that is the same on every machine: encodings are identical everywhere.
#pragma once

#include <complex>
#include <cstdint>
#include <vector>

namespace cipherlens {

class Encoder {
  public:
    explicit Encoder(std::size_t n);  // n a power of two, at least 4

    std::size_t slots() const { return n_ / 2; }

    // coefficients[n] = round(scale * embedding^-1(values[n / 2])).
    void embed(double* coefficients, const std::complex<double>* values, double scale) const;
    // values[n / 2] = embedding(coefficients[n]) / scale.
    void project(std::complex<double>* values, const double* coefficients, double scale) const;

  private:
    std::size_t n_;
    std::vector<double> real_, imaginary_;  // twiddle of each node of the butterfly tree, the root at 1
    std::vector<std::uint32_t> leaf_;       // where slot j leaves the tree
};

}  // namespace cipherlens
