use super::*;

#[test]
fn a_small_file_is_enough_and_mistakes_are_named() {
    let config: Config = toml::from_str(
        "data_dir = \"/tmp/x\"\n[[transmitter]]\nname = \"desk\"\nlisten = \"127.0.0.1:5683\"\n",
    )
    .unwrap();
    config.check().unwrap();
    assert_eq!(config.spool.max_mib, 256);
    let mistake = Config::parse("data_dir = \"/tmp/x\"\nspol = 1\n").unwrap_err();
    let mistake = mistake.to_string();
    assert!(
        mistake.contains("spol") && mistake.contains("line 2"),
        "{mistake}"
    );
}

#[test]
fn the_example_is_a_configuration_with_all_that_is_commented_out_too() {
    let example = include_str!("../../../../deploy/relay.toml");
    Config::parse(example).unwrap().check().unwrap();
    let is_key = |line: &str| {
        let name = line.split([' ', '=']).next().unwrap_or_default();
        let has_name = !name.is_empty() && name.chars().all(|c| c == '_' || c.is_lowercase());
        line.starts_with('[') || has_name && line[name.len()..].starts_with(" = ")
    };
    let all: Vec<&str> = (example.lines())
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if is_key(rest) => rest,
            _ => line,
        })
        .collect();
    // [box.dtls] belongs to a box at coaps://.
    let all = all.join("\n").replace("coap://10", "coaps://10");
    let config = Config::parse(&all).unwrap();
    config.check().unwrap();
    assert_eq!((config.sources().len(), config.boxes.len()), (4, 1));
}

#[test]
fn a_password_in_the_file_is_not_repeated_by_the_mistake_beside_it() {
    for text in [
        "data_dir = \"/x\"\n[[fluxmq]]\nname = \"a\"\nurl = \"http://127.0.0.1:1\"\npassword = \"hunter2\"\n",
        "data_dir = \"/x\"\n[cloud]\nurl = \"http://127.0.0.1:1\"\nkey = \"rk_a:hunter2\n",
        "data_dir = \"/x\"\n[cloud]\nurl = \"http://127.0.0.1:1\"\nkey = [\"hunter2\"]\n",
    ] {
        let error = format!("{:#}", Config::parse(text).unwrap_err());
        assert!(!error.contains("hunter2"), "{error}");
        assert!(error.contains("line "), "{error}");
    }
}

#[test]
fn plain_coap_is_for_this_machine_unless_somebody_says_so() {
    let with = |rest: &str| {
        let text = format!("data_dir = \"/x\"\n[[transmitter]]\nname = \"a\"\n{rest}");
        let config: Config = toml::from_str(&text).unwrap();
        config.check().map_err(|error| error.to_string())
    };
    let error = with("listen = \"10.1.2.3:5683\"").unwrap_err();
    assert!(
        error.contains("plain = true") && error.contains("DTLS"),
        "{error}"
    );
    assert!(with("listen = \"[::]:5683\"").is_err());
    with("listen = \"10.1.2.3:5683\"\nplain = true").unwrap();
    with("listen = \"[::1]:5683\"").unwrap();
    let dtls = "[transmitter.dtls]\nlisten = \"0.0.0.0:5684\"\npsk_file = \"/x/keys\"\n";
    with(&format!("listen = \"127.0.0.1:5683\"\n{dtls}")).unwrap();
    assert!(with(&format!("listen = \"0.0.0.0:5684\"\nplain = true\n{dtls}")).is_err());
}

#[test]
fn a_source_has_a_name_of_its_own() {
    let with = |pool: &str, bus: &str| {
        let text = format!(
            "data_dir = \"/x\"\n[[transmitter]]\nname = \"a\"\nlisten = \"127.0.0.1:1\"\n[[pgbouncer]]\nname = {pool:?}\n\
             host = \"127.0.0.1\"\nuser = \"u\"\n[[fluxmq]]\nname = {bus:?}\nurl = \"http://127.0.0.1:1\"\n"
        );
        let config: Config = toml::from_str(&text).unwrap();
        config.check().map_err(|error| error.to_string())
    };
    with("b", "c").unwrap();
    assert!(with("a", "c").unwrap_err().contains("`a`"));
    assert!(with("b", "b").unwrap_err().contains("`b`"));
    assert!(with("", "c").unwrap_err().contains("`name`"));
    assert!(with("b", "forms-1").unwrap_err().contains("cloud's own"));
}

#[test]
fn sources_of_every_kind_are_asked_no_more_than_each_second_and_once_an_hour_at_least() {
    let http = "name = \"a\"\nurl = \"http://127.0.0.1:1\"\n";
    let kinds = [
        format!("[[rabbitmq]]\n{http}user = \"u\"\npassword_env = \"P\"\n"),
        format!("[[fluxmq]]\n{http}"),
        format!("[[maxscale]]\n{http}"),
        "[[pgbouncer]]\nname = \"a\"\nhost = \"127.0.0.1\"\nuser = \"u\"\n".to_owned(),
    ];
    for kind in kinds {
        let with = |times: &str| {
            let text = format!("data_dir = \"/x\"\n{kind}{times}");
            toml::from_str::<Config>(&text).unwrap().check()
        };
        with("poll_seconds = 3600\ntimeout_seconds = 600").unwrap();
        for wrong in [
            "poll_seconds = 0",
            "poll_seconds = 3601",
            "timeout_seconds = 0",
            "timeout_seconds = 601",
        ] {
            let error = format!("{:#}", with(wrong).unwrap_err());
            assert!(
                error.contains("`poll_seconds` is from 1"),
                "{kind}{wrong}: {error}"
            );
        }
    }
}

#[test]
fn names_and_ports_are_unique() {
    let with = |second: &str| {
        let text = format!(
            "data_dir = \"/x\"\n[[transmitter]]\nname = \"a\"\nlisten = \"127.0.0.1:1\"\n[[transmitter]]\n{second}"
        );
        toml::from_str::<Config>(&text)
            .unwrap()
            .check()
            .map_err(|e| e.to_string())
    };
    assert!(
        with("name = \"a\"\nlisten = \"127.0.0.1:2\"")
            .unwrap_err()
            .contains("`a`")
    );
    assert!(
        with("name = \"b\"\nlisten = \"127.0.0.1:1\"")
            .unwrap_err()
            .contains("127.0.0.1:1")
    );
    assert!(with("name = \"b\"\nlisten = \"127.0.0.1:2\"").is_ok());
    assert!(with("name = \"b\"\nlisten = \"127.0.0.1:2\"\ntrusted = [\"10/8\"]").is_err());
}
