//! A number of pods, or a part of all of them.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    Up,
    Down,
}

/// Validation lets only numbers and percentages in.
pub fn scaled(value: &IntOrString, total: i32, round: Round) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i32 = text.trim_end_matches('%').parse().unwrap_or(0);
            let product = i64::from(percent) * i64::from(total);
            let rounded = match round {
                Round::Up => (product + 99).div_euclid(100),
                Round::Down => product.div_euclid(100),
            };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_rounded_as_asked() {
        let part = |text: &str| IntOrString::String(text.into());
        assert_eq!(scaled(&IntOrString::Int(7), 3, Round::Up), 7);
        assert_eq!((scaled(&part("50%"), 3, Round::Up), scaled(&part("50%"), 3, Round::Down)), (2, 1));
        assert_eq!((scaled(&part("0%"), 3, Round::Up), scaled(&part("100%"), 3, Round::Down)), (0, 3));
        assert_eq!(scaled(&part("100%"), i32::MAX, Round::Up), i32::MAX);
    }
}
