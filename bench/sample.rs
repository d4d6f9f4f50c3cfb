//! Many figures in one.

/// The value below which this part of the values lies.
pub fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1).expect("no values");
    sorted[(part * last as f64).round() as usize]
}

pub fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The median of the rounds' ratios. Both figures of a ratio are of the same round, so what disturbs the machine
/// for longer than a round disturbs both.
pub fn ratio(of: &[f64], to: &[f64]) -> f64 {
    assert_eq!(of.len(), to.len(), "a figure of each round");
    median(&of.iter().zip(to).map(|(of, to)| of / to).collect::<Vec<_>>())
}
