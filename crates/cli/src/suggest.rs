//! Names that are similar to one that isn't there.

/// The name among these that was probably meant.
pub fn similar<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Below this, two names have little in common.
    const LIKENESS: f64 = 0.8;
    let likeness = |other: &str| strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase());
    names
        .map(|other| (likeness(other), other))
        .filter(|(likeness, other)| *likeness >= LIKENESS && *other != name)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::similar;

    #[test]
    fn typos_are_similar_and_other_words_are_not() {
        let names = ["orders", "payments", "Audit"];
        assert_eq!(similar("ordres", names.into_iter()), Some("orders"));
        assert_eq!(similar("audit", names.into_iter()), Some("Audit"));
        assert_eq!(similar("webhooks", names.into_iter()), None);
    }
}
