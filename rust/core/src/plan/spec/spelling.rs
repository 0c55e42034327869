//! Words in messages: lists of choices, and the probably intended word.

use std::fmt::Display;

/// `"a", "b" or "c"`.
pub(crate) fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

pub(crate) fn suggestion(near: Option<impl Display>) -> String {
    near.map_or_else(String::new, |near| format!("; did you mean {near}?"))
}

/// The word that was probably intended: the nearest by edits, if it is near.
pub(crate) fn nearest<'w>(text: &str, words: &[&'w str]) -> Option<&'w str> {
    let most = (text.chars().count() / 3).clamp(1, 3);
    words
        .iter()
        .map(|word| (distance(&text.to_lowercase(), &word.to_lowercase()), *word))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Edits between two words, a swap of neighbours counting once.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let width = b.len() + 1;
    let mut cells: Vec<usize> = (0..width).collect();
    cells.resize((a.len() + 1) * width, 0);
    let get = |cells: &[usize], i: usize, j: usize| {
        cells.get(i * width + j).copied().unwrap_or(usize::MAX / 2)
    };
    for i in 1..=a.len() {
        for j in 0..width {
            let best = if j == 0 {
                i
            } else {
                let differs = usize::from(a.get(i - 1) != b.get(j - 1));
                let swapped =
                    i > 1 && j > 1 && a.get(i - 1) == b.get(j - 2) && a.get(i - 2) == b.get(j - 1);
                let plain = (get(&cells, i - 1, j) + 1)
                    .min(get(&cells, i, j - 1) + 1)
                    .min(get(&cells, i - 1, j - 1) + differs);
                if swapped {
                    plain.min(get(&cells, i - 2, j - 2) + 1)
                } else {
                    plain
                }
            };
            if let Some(cell) = cells.get_mut(i * width + j) {
                *cell = best;
            }
        }
    }
    get(&cells, a.len(), b.len())
}
