//! JSON bodies: UTF-8, depth and syntax checked, with the position in every complaint.

use rollcall_model::Limits;
use serde::Deserialize;
use serde_json::error::Category;

use crate::error::Problem;

/// Parses a whole body. Depth is looked at first, so that a bomb of brackets never reaches the parser.
pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8], limits: &Limits) -> Result<T, Problem> {
    let text = std::str::from_utf8(body).map_err(|error| {
        Problem::new(
            "utf8_broken",
            format!("the body is not UTF-8 from byte {} on", error.valid_up_to()),
        )
    })?;
    if let Some(at) = too_deep(text, limits.nesting) {
        return Err(Problem::new(
            "json_too_deep",
            format!(
                "the JSON nests more than {} levels deep (limit: nesting) at byte {at}",
                limits.nesting
            ),
        ));
    }
    let is_object = text.trim_ascii_start().starts_with('{');
    let parsed = serde_json::from_str(text);
    // What is derived for an object would also take its values in an array, by their order.
    if !is_object && (parsed.is_ok() || matches!(&parsed, Err(error) if error.is_data())) {
        return Err(not_an_object(text));
    }
    parsed.map_err(|error| match error.classify() {
        Category::Eof => Problem::new(
            "json_truncated",
            format!("the JSON ends too early: {error}"),
        ),
        Category::Syntax | Category::Io => {
            Problem::new("json_broken", format!("the body is not JSON: {error}"))
        }
        Category::Data => Problem::new(
            "json_invalid",
            format!("the JSON is not what is expected here: {error}"),
        ),
    })
}

fn not_an_object(text: &str) -> Problem {
    let before = &text[..text.len() - text.trim_ascii_start().len()];
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1;
    Problem::new(
        "json_invalid",
        format!(
            "the JSON is not what is expected here: an object must begin at line {line} column {column}"
        ),
    )
}

/// Where brackets nest deeper than `limit`; strings do not count.
fn too_deep(text: &str, limit: usize) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > limit {
                    return Some(at);
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_strings() {
        assert_eq!(too_deep(r#"{"a":["]]]]","[[[\"[["]}"#, 2), None);
        assert_eq!(too_deep(r#"{"a":[[1]]}"#, 2), Some(6));
        assert_eq!(too_deep(&"[".repeat(1_000_000), 16), Some(16));
    }

    #[test]
    fn an_object_is_not_taken_as_an_array_of_its_values() {
        #[derive(Debug, Deserialize)]
        struct Envelope {
            #[expect(dead_code, reason = "what matters is whether it is taken")]
            session: String,
        }
        let parse = |text: &str| parse::<Envelope>(text.as_bytes(), &Limits::default());
        assert!(parse(" {\"session\":\"x\"}").is_ok());
        for wrong in ["\n [\"x\"]", "\n null", "\n 1", "\n \"x\""] {
            let problem = parse(wrong).expect_err("no object");
            assert!(problem.message.ends_with("line 2 column 2"), "{problem:?}");
        }
    }

    #[test]
    fn complaints_carry_positions() {
        let parse =
            |body: &[u8]| parse::<serde_json::Value>(body, &Limits::default()).expect_err("bad");
        assert!(parse(b"{\"a\":\n }").message.contains("line 2 column 2"));
        assert!(parse(b"{\"a\":").message.contains("line 1 column 5"));
        assert!(parse(b"\"\xff\"").message.contains("byte 1"));
    }
}
