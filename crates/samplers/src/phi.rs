//! The functions of exponential integrators (Hochbruck and Ostermann 2010, equation 2.11).

/// `(e^z - 1) / z`.
pub(crate) fn phi_1(z: f64) -> f64 {
    z.exp_m1() / z
}

/// `(phi_1(z) - 1) / z`.
pub(crate) fn phi_2(z: f64) -> f64 {
    (phi_1(z) - 1.0) / z
}
