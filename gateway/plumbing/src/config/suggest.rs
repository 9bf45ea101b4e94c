//! Did you mean …?

/// The longest name that is compared, in bytes.
const LONGEST: usize = 64;

/// The name among `known` that is closest to `given`, if one is close enough to be what was meant.
pub(super) fn closest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A name this long is no slip of the finger, and comparing it would take long.
    if given.len() > LONGEST {
        return None;
    }
    let given: Vec<char> = folded(given).collect();
    let near = (given.len() / 3).max(1);
    let scored = known.into_iter().map(|name| (distance(&given, &folded(name).collect::<Vec<_>>()), name));
    scored.filter(|(distance, _)| *distance <= near).min().map(|(_, name)| name)
}

/// Case and the kind of dash are not what tells two names apart.
fn folded(name: &str) -> impl Iterator<Item = char> + '_ {
    name.chars().flat_map(char::to_lowercase).map(|c| if c == '-' { '_' } else { c })
}

/// How many insertions, deletions, replacements and swaps of neighbours lead from one name to the other (optimal string
/// alignment).
fn distance(from: &[char], to: &[char]) -> usize {
    let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(LONGEST);
    let (mut before, mut above) = (Vec::new(), (0..=to.len()).collect::<Vec<usize>>());
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut best = (at(&above, j) + usize::from(a != b)).min(at(&row, j) + 1).min(at(&above, j + 1) + 1);
            let swapped = i > 0 && j > 0 && from.get(i - 1) == Some(b) && to.get(j - 1) == Some(a);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    at(&above, to.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits() {
        let table = [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("ab", "ba", 1),
            ("abcd", "badc", 2),
            ("ca", "abc", 3),
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
            ("prot", Some("port")),
            ("x", None),
            ("ports", Some("port")),
            ("colour", None),
            ("", None),
        ];
        for (given, expected) in table {
            assert_eq!(closest(given, known), expected, "{given}");
        }
    }
}
