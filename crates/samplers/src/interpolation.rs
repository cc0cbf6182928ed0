//! Weights of past values in an integral of the polynomial through them.

/// The polynomial that is 1 at node `j` and 0 at the others.
pub(crate) fn basis(nodes: &[f64], j: usize, at: f64) -> f64 {
    let others = nodes.iter().enumerate().filter(|&(k, _)| k != j);
    others.map(|(_, node)| (at - node) / (nodes[j] - node)).product()
}

/// The integral, from `start` to `end`, of `rate · e^(rate · (x - end))` times the polynomial that is 1 at one node and 0 at the
/// others: one weight for each node.
///
/// The integrals of the powers follow from each other by parts; the weights are what makes every power below the number of
/// nodes exact.
pub(crate) fn exponential_weights(nodes: &[f64], start: f64, end: f64, rate: f64) -> Vec<f64> {
    // Counted from the end, where the weight is largest, so that the powers stay small.
    let (from, decay) = (start - end, (rate * (start - end)).exp());
    let mut moments: Vec<f64> = Vec::with_capacity(nodes.len());
    for power in 0..nodes.len() {
        let ends = if power == 0 { 1.0 - decay } else { -from.powi(power as i32) * decay };
        let before = moments.last().map_or(0.0, |last| power as f64 / rate * last);
        moments.push(ends - before);
    }
    let powers = (0..nodes.len()).map(|power| nodes.iter().map(|x| (x - end).powi(power as i32)).collect());
    solved(powers.collect(), moments)
}

/// The solution of a small linear system, by elimination with the largest pivot.
pub(crate) fn solved(mut rows: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let n = right.len();
    for column in 0..n {
        let size = |row: &usize| rows[*row][column].abs();
        let pivot = (column..n).max_by(|a, b| size(a).total_cmp(&size(b))).unwrap_or(column);
        rows.swap(column, pivot);
        right.swap(column, pivot);
        for row in column + 1..n {
            let factor = rows[row][column] / rows[column][column];
            let (above, below) = rows.split_at_mut(row);
            below[0].iter_mut().zip(&above[column]).for_each(|(x, pivot)| *x -= factor * pivot);
            right[row] -= factor * right[column];
        }
    }
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|k| rows[row][k] * right[k]).sum();
        right[row] = (right[row] - known) / rows[row][row];
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_solved() {
        let found = solved(vec![vec![0.0, 2.0], vec![3.0, 1.0]], vec![4.0, 5.0]);
        assert!((found[0] - 1.0).abs() < 1e-12 && (found[1] - 2.0).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn polynomials_are_integrated_exactly() {
        // given the values of x² at three nodes
        let (nodes, start, end, rate) = ([0.3, 0.1, -0.4], 0.3, 1.1, 2.0);
        let weights = exponential_weights(&nodes, start, end, rate);
        let found: f64 = nodes.iter().zip(weights).map(|(x, w)| x * x * w).sum();
        // then the weighted sum is the integral, here by 20,000 midpoints
        let n = 20_000;
        let width = (end - start) / f64::from(n);
        let at = |i: i32| start + (f64::from(i) + 0.5) * width;
        let expected: f64 = (0..n).map(|i| at(i).powi(2) * rate * (rate * (at(i) - end)).exp() * width).sum();
        assert!((found - expected).abs() < 1e-8, "{found} {expected}");
    }
}
