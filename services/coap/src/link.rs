//! `/.well-known/core`: which resources there are, narrowed by a query (RFC 6690).

use crate::types::{LINKS, Response};

/// A resource as the list of all shows it.
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// Its path, with the first slash.
    pub href: &'static str,
    /// Attributes such as `("rt", "transmitter")`; one without a value, such as `obs`, has an empty one.
    pub attributes: Vec<(&'static str, &'static str)>,
}

impl Link {
    fn matches(&self, name: &str, wanted: &str) -> bool {
        let fits = |held: &str| match wanted.strip_suffix('*') {
            Some(prefix) => held.starts_with(prefix),
            None => held == wanted,
        };
        if name == "href" {
            return fits(self.href);
        }
        let of_name = self.attributes.iter().filter(|(held, _)| *held == name);
        // Relation types and the like are lists (section 4.1).
        let mut values = of_name.flat_map(|(_, value)| value.split(' '));
        values.any(fits)
    }

    fn write(&self, out: &mut String) {
        out.push('<');
        out.push_str(self.href);
        out.push('>');
        for (name, value) in &self.attributes {
            out.push(';');
            out.push_str(name);
            let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            if is_number {
                out.push('=');
                out.push_str(value);
            } else if !value.is_empty() {
                out.push_str("=\"");
                out.push_str(value);
                out.push('"');
            }
        }
    }
}

/// The links that a query asks for: all without one; `rt=sensor`, `href=/obs*` narrow. What is no filter finds nothing.
pub fn well_known_core(links: &[Link], query: &[String]) -> Response {
    let is_asked = |link: &&Link| {
        query.iter().all(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, "*"));
            link.matches(name, value.trim_matches('"'))
        })
    };
    let mut out = String::new();
    for link in links.iter().filter(is_asked) {
        if !out.is_empty() {
            out.push(',');
        }
        link.write(&mut out);
    }
    Response::content(LINKS, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_narrowed_as_rfc_6690_says() {
        let links = [
            Link {
                href: "/a",
                attributes: vec![
                    ("rt", "one two"),
                    ("if", "core#s"),
                    ("ct", "50"),
                    ("obs", ""),
                ],
            },
            Link {
                href: "/b",
                attributes: vec![("sz", "64")],
            },
        ];
        let list = |query: &str| {
            let query: Vec<String> = query
                .split('&')
                .filter(|p| !p.is_empty())
                .map(str::to_owned)
                .collect();
            let response = well_known_core(&links, &query);
            String::from_utf8(response.payload.to_vec()).unwrap()
        };
        let a = r#"</a>;rt="one two";if="core#s";ct=50;obs"#;
        assert_eq!(list(""), format!("{a},</b>;sz=64"));
        for query in [
            "rt=two", "rt=on*", "href=/a", "if=core*", "ct=50", "rt=*", "obs",
        ] {
            assert_eq!(list(query), a, "{query}");
        }
        assert_eq!(list("sz=6*"), "</b>;sz=64");
        assert_eq!(list("rt=t"), "");
    }
}
