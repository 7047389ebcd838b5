//! The query string as the client sent it: for links that keep every parameter, and for what stands under many names.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What stands for itself in a path's segment and in a query's names and values.
const ENCODED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Names and values, decoded, in the order sent.
#[derive(Clone, Debug, Default)]
pub struct Parameters(pub Vec<(String, String)>);

impl Parameters {
    /// Reads a query string.
    pub fn read(query: &str) -> Self {
        let decode = |text: &str| {
            let text = text.replace('+', " ");
            percent_decode_str(&text).decode_utf8_lossy().into_owned()
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    /// The values under a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }

    /// The query string with its `?`, nothing where there are no parameters. What `replaced` names stands once, at the
    /// end; without a value it is left out.
    pub fn query(&self, replaced: &[(&str, Option<&str>)]) -> String {
        let kept = self
            .0
            .iter()
            .filter(|(name, _)| !replaced.iter().any(|(other, _)| other == name))
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let new = replaced
            .iter()
            .filter_map(|(name, value)| Some((*name, (*value)?)));
        let mut query = String::new();
        for (name, value) in kept.chain(new) {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.extend(utf8_percent_encode(name, &ENCODED));
            query.push('=');
            query.extend(utf8_percent_encode(value, &ENCODED));
        }
        query
    }
}

/// A text as a segment of a path.
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, &ENCODED).to_string()
}

/// Whether documents are to be indented: `pretty`, `pretty=true` and the like.
pub fn is_pretty(query: &str) -> bool {
    let parameters = Parameters::read(query);
    let last = parameters.all("pretty").last();
    // As MaxScale's configuration files spell it.
    last.is_some_and(|value| {
        !["false", "off", "no", "0"].contains(&value.to_ascii_lowercase().as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_keep_every_parameter_but_those_replaced() {
        let parameters = Parameters::read("filter%5Blabel%5D=a%26b&page[after]=x&pretty&q=1+2");
        assert_eq!(
            parameters.query(&[("page[after]", Some("y")), ("page[before]", None)]),
            "?filter%5Blabel%5D=a%26b&pretty=&q=1%202&page%5Bafter%5D=y"
        );
        assert_eq!(Parameters::read("").query(&[]), "");
    }

    #[test]
    fn pretty_is_what_is_not_false() {
        for query in [
            "pretty",
            "pretty=",
            "pretty=true",
            "x=1&pretty=1",
            "pretty=0&pretty=yes",
        ] {
            assert!(is_pretty(query), "{query}");
        }
        for query in ["", "pretty=false", "pretty=OFF", "pretty=0", "prettier"] {
            assert!(!is_pretty(query), "{query}");
        }
    }
}
