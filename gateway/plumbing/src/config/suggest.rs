//! Did you mean …?

/// The name among `known` that is closest to `given`, if one is close enough to be what was meant.
pub(super) fn closest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given: Vec<char> = folded(given).collect();
    let near = (given.len() / 3).max(1);
    let scored = known.into_iter().map(|name| (distance(&given, &folded(name).collect::<Vec<_>>()), name));
    scored.filter(|(distance, _)| *distance <= near).min().map(|(_, name)| name)
}

/// Case and the kind of dash are not what tells two names apart.
fn folded(name: &str) -> impl Iterator<Item = char> + '_ {
    name.chars().flat_map(char::to_lowercase).map(|c| if c == '-' { '_' } else { c })
}

/// How many insertions, deletions and replacements of a character lead from one name to the other (Levenshtein).
fn distance(from: &[char], to: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, a) in from.iter().enumerate() {
        let mut diagonal = above;
        let mut left = above + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(to) {
            let replaced = diagonal + usize::from(a != b);
            diagonal = *cell;
            left = replaced.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = above + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshteins() {
        let table = [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("ab", "ba", 2),
        ];
        for (from, to, expected) in table {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            assert_eq!(distance(&chars(from), &chars(to)), expected, "{from} {to}");
        }
    }

    #[test]
    fn only_a_close_name_is_suggested() {
        let known = ["address", "port", "max_connections"];
        let table = [
            ("adress", Some("address")),
            ("Address", Some("address")),
            ("max-connections", Some("max_connections")),
            ("max_conections", Some("max_connections")),
            ("prot", None),
            ("ports", Some("port")),
            ("colour", None),
            ("", None),
        ];
        for (given, expected) in table {
            assert_eq!(closest(given, known), expected, "{given}");
        }
    }
}
