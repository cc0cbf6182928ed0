// Activation functions of one number or of four, part of the header of every kernel.
//
// activated(v, f) for f: 0 none, 1 GELU tanh, 2 GELU erf, 3 SiLU, 4 quick GELU x sigmoid(1.702 x).
// NaN stays NaN; far below zero the result is 0.
fn activated(v: F, f: u32) -> F {
    switch f {
        // (1 + tanh u) / 2 is sigmoid(2 u); u = sqrt(2 / pi) (v + 0.044715 v^3).
        case 1u: { return v * sigmoid(1.5957691216057308 * v * (1.0 + 0.044715 * v * v)); }
        case 2u: { return gelu_erf(v); }
        case 3u: { return v * sigmoid(v); }
        case 4u: { return v * sigmoid(1.702 * v); }
        default: { return v; }
    }
}

// Only exponentials of what is not above zero are taken: they cannot overflow, which a driver need not follow through a division.
fn sigmoid(v: F) -> F {
    let e = exp(-abs(v));
    return select(e, F(1.0), v >= F(0.0)) / (1.0 + e);
}

// v (1 + erf(v / sqrt 2)) / 2. 1 - erf is within 1.5e-7 for what is not below zero: Abramowitz and Stegun (1964), 7.1.26.
// Below zero 1 + erf is that tail itself, without a difference in which its digits would be lost.
fn gelu_erf(v: F) -> F {
    let z = abs(v) * 0.70710678118654752;
    let t = 1.0 / (1.0 + 0.3275911 * z);
    let polynomial = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    let half_tail = 0.5 * polynomial * exp(-z * z);
    return v * select(half_tail, 1.0 - half_tail, v >= F(0.0));
}
