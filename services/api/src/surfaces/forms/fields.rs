//! Names of form fields: `session[data][sketch1][rawData]` and what they hold apart.
//!
//! Pure and total: any text gives a path or an error, in time and memory of the order of the text. Fuzzed by
//! `tests/fuzz`.

use rollcall_model::Limits;

/// A field's name taken apart: `session[data][p]` is the root `session` with the keys `data` and `p`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldPath<'a> {
    pub root: &'a str,
    pub keys: Vec<&'a str>,
}

/// Why a text is no field's name. Positions count bytes from 0.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidField {
    #[error("a field's name may have at most {limit} bytes (limit: name), this one has {length}")]
    TooLong { length: usize, limit: usize },
    #[error("a field's name may nest at most {limit} levels deep (limit: nesting)")]
    TooDeep { limit: usize },
    #[error("a field has no name")]
    Empty,
    #[error("the brackets in a field's name do not pair at byte {at}; write session[data][point]")]
    Brackets { at: usize },
}

impl<'a> FieldPath<'a> {
    /// Takes a name apart.
    pub fn parse(name: &'a str, limits: &Limits) -> Result<Self, InvalidField> {
        if name.len() > limits.name_bytes {
            return Err(InvalidField::TooLong {
                length: name.len(),
                limit: limits.name_bytes,
            });
        }
        let root_end = name.find(['[', ']']).unwrap_or(name.len());
        let root = &name[..root_end];
        if root.is_empty() {
            return Err(if name.is_empty() {
                InvalidField::Empty
            } else {
                InvalidField::Brackets { at: 0 }
            });
        }
        let mut keys = Vec::new();
        let mut at = root_end;
        while at < name.len() {
            let key_start = at + 1;
            let rest = name[at..]
                .strip_prefix('[')
                .ok_or(InvalidField::Brackets { at })?;
            let length = rest.find(['[', ']']).ok_or(InvalidField::Brackets { at })?;
            let close = key_start + length;
            if name.as_bytes()[close] != b']' {
                return Err(InvalidField::Brackets { at: close });
            }
            if keys.len() == limits.nesting {
                return Err(InvalidField::TooDeep {
                    limit: limits.nesting,
                });
            }
            keys.push(&name[key_start..close]);
            at = close + 1;
        }
        Ok(Self { root, keys })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(name: &str) -> Result<FieldPath<'_>, InvalidField> {
        FieldPath::parse(name, &Limits::default())
    }

    #[test]
    fn names_of_the_seed_are_taken_apart() {
        let path = |root, keys: &[&'static str]| {
            Ok(FieldPath {
                root,
                keys: keys.to_vec(),
            })
        };
        assert_eq!(parse("session[uuid]"), path("session", &["uuid"]));
        assert_eq!(
            parse("session[data][sketch1][rawData]"),
            path("session", &["data", "sketch1", "rawData"])
        );
        assert_eq!(
            parse("session[data][__timezone__]"),
            path("session", &["data", "__timezone__"])
        );
        assert_eq!(parse("source"), path("source", &[]));
        assert_eq!(parse("a[]"), path("a", &[""]));
    }

    #[test]
    fn broken_names_say_where() {
        assert_eq!(parse(""), Err(InvalidField::Empty));
        assert_eq!(parse("[a]"), Err(InvalidField::Brackets { at: 0 }));
        assert_eq!(parse("a[b"), Err(InvalidField::Brackets { at: 1 }));
        assert_eq!(parse("a]"), Err(InvalidField::Brackets { at: 1 }));
        assert_eq!(parse("a[b]c"), Err(InvalidField::Brackets { at: 4 }));
        assert_eq!(
            parse("session[data][a[b]"),
            Err(InvalidField::Brackets { at: 15 })
        );
    }

    #[test]
    fn names_are_bounded() {
        let limits = Limits {
            nesting: 2,
            name_bytes: 12,
            ..Limits::default()
        };
        let parse = |name| FieldPath::parse(name, &limits);
        assert!(parse("a[b][c]").is_ok());
        assert_eq!(parse("a[b][c][d]"), Err(InvalidField::TooDeep { limit: 2 }));
        assert_eq!(
            parse("aaaaaaaaaaaaa"),
            Err(InvalidField::TooLong {
                length: 13,
                limit: 12
            })
        );
    }

    proptest! {
        #[test]
        fn any_text_is_answered(name in ".{0,300}") {
            let _ = parse(&name);
        }

        #[test]
        fn brackets_in_any_order_are_answered(name in "[\\[\\]aé]{0,40}") {
            if let Ok(path) = parse(&name) {
                let rebuilt = path.keys.iter().fold(path.root.to_owned(), |name, key| format!("{name}[{key}]"));
                prop_assert_eq!(rebuilt, name);
            }
        }

        #[test]
        fn what_is_put_together_is_taken_apart(root in "[^\\[\\]]{1,8}", keys in prop::collection::vec("[^\\[\\]]{0,8}", 0..5)) {
            let name = keys.iter().fold(root.clone(), |name, key| format!("{name}[{key}]"));
            let path = parse(&name).expect("a good name");
            prop_assert_eq!(path.root, root);
            prop_assert_eq!(path.keys, keys);
        }
    }
}
