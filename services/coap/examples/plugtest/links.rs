//! What `/.well-known/core` and `/path` list (RFC 6690).

use rollcall_coap::link::Link;

/// Every resource, with the attributes that TD_COAP_LINK_02 to 09 ask for.
pub fn all() -> Vec<Link> {
    let link = |href, attributes: &[_]| Link {
        href,
        attributes: attributes.to_vec(),
    };
    vec![
        link("/test", &[("ct", "0")]),
        link("/validate", &[("ct", "0")]),
        link("/create1", &[]),
        link("/create2", &[]),
        link("/create3", &[]),
        link("/seg1/seg2/seg3", &[("ct", "0")]),
        link("/query", &[("ct", "0")]),
        link("/location-query", &[]),
        link("/multi-format", &[("ct", "0 41")]),
        link("/separate", &[("ct", "0")]),
        link("/large", &[("rt", "block"), ("sz", "2048"), ("ct", "0")]),
        link("/large-update", &[("rt", "block"), ("sz", "2048")]),
        link("/large-create", &[("rt", "block")]),
        link("/large-post", &[("rt", "block")]),
        link("/obs", &[("rt", "observe"), ("obs", "")]),
        link("/obs-non", &[("rt", "observe"), ("obs", "")]),
        link(
            "/obs-large",
            &[("rt", "observe"), ("sz", "2048"), ("obs", "")],
        ),
        link("/obs-pumping", &[("rt", "observe"), ("obs", "")]),
        link("/obs-pumping-non", &[("rt", "observe"), ("obs", "")]),
        link("/obs-reset", &[("rt", "observe"), ("obs", "")]),
        link("/link1", &[("rt", "Type1 Type2"), ("if", "If1")]),
        link("/link2", &[("rt", "Type2 Type3"), ("if", "If2")]),
        link("/link3", &[("rt", "Type1 Type3"), ("if", "foo")]),
        link("/path", &[("ct", "40")]),
    ]
}

/// What is below `/path`.
pub fn of_path() -> Vec<Link> {
    let link = |href| Link {
        href,
        attributes: vec![("ct", "0")],
    };
    ["/path/sub1", "/path/sub2", "/path/sub3"]
        .into_iter()
        .map(link)
        .collect()
}
