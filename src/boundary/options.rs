//! Options whose value is one of several words. Python checks them too; an unknown word that comes past it is an error.

use pyo3::PyErr;

use crate::boundary::errors::ConfigurationError;

/// Declares an enum that is parsed from one word of a list: `choices! { enum Name("option") { Variant = "word", } }`.
macro_rules! choices {
    ($(#[$attribute:meta])* enum $name:ident($option:literal) { $($variant:ident = $word:literal,)+ }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name {
            $($variant,)+
        }

        impl std::str::FromStr for $name {
            type Err = pyo3::PyErr;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::boundary::options::unknown($option, word, &[$($word),+])),
                }
            }
        }
    };
}

pub(crate) use choices;

/// The error for a word that is not in the list of an option.
pub(crate) fn unknown(option: &str, word: &str, known: &[&str]) -> PyErr {
    ConfigurationError::new_err(describe_unknown(option, word, known))
}

fn describe_unknown(option: &str, word: &str, known: &[&str]) -> String {
    format!("{option} '{word}' is unknown; use one of {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    choices! {
        enum Color("color") {
            Red = "red",
            Green = "green",
        }
    }

    #[test]
    fn only_a_known_word_is_parsed() {
        assert_eq!("red".parse::<Color>().ok(), Some(Color::Red));
        assert_eq!("green".parse::<Color>().ok(), Some(Color::Green));
        assert!("blue".parse::<Color>().is_err());
        assert!("Red".parse::<Color>().is_err());
    }

    #[test]
    fn the_error_names_the_word_and_the_known_ones() {
        let message = describe_unknown("color", "blue", &["red", "green"]);
        assert_eq!(message, "color 'blue' is unknown; use one of red, green");
    }
}
