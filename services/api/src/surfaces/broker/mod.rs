//! The broker admin surface: clients' sessions on brokers as broker tools read them (seed 004; proxy-and-broker contract §2
//! and its decisions 11 to 24), over what relays tell of every broker in the credential's reach, or of one project's.

mod asked;
mod clients;
mod figures;
mod list;
mod reach;
mod sessions;
mod subscriptions;
mod wire;

use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(sessions::list_broker_sessions)
        .service(sessions::list_project_broker_sessions)
        .service(sessions::get_broker_session)
        .service(sessions::get_project_broker_session)
        .service(subscriptions::list_broker_subscriptions)
        .service(subscriptions::list_project_broker_subscriptions)
        .service(clients::list_broker_subscribers)
        .service(clients::list_project_broker_subscribers)
        .service(figures::show_broker_stats)
        .service(figures::show_project_broker_stats)
        .service(figures::show_broker_overview)
        .service(figures::show_project_broker_overview)
        .service(figures::show_broker_cluster)
        .service(figures::show_project_broker_cluster);
}

/// What follows the part of a path that is a project's, or nobody's: `/sessions/a`; `None` where the path is not of this
/// surface.
pub fn part(path: &str) -> Option<&str> {
    const LISTS: [&str; 5] = ["sessions", "subscriptions", "stats", "overview", "cluster"];
    let rest = path.strip_prefix("/api/v1/")?;
    if let Some(of_project) = rest.strip_prefix("projects/") {
        let (_, rest) = of_project.split_once('/')?;
        let rest = rest.strip_prefix("broker")?;
        return (rest.is_empty() || rest.starts_with('/')).then_some(rest);
    }
    let first = rest.split('/').next().unwrap_or_default();
    LISTS.contains(&first).then(|| &path["/api/v1".len()..])
}

/// Whether a slash at the path's end may be left off. After a name it belongs to the name, which is then no name here.
pub fn may_trim(path: &str) -> bool {
    let Some(part) = part(path) else {
        return true;
    };
    let segments = part.trim_matches('/').split('/').count();
    segments <= 1
}

/// What is not there, where nothing is at a path of this surface.
pub fn missing(path: &str) -> Option<&'static str> {
    let part = part(path)?;
    ["session", "subscription"]
        .into_iter()
        .find(|name| {
            part.strip_prefix('/')
                .is_some_and(|rest| rest.starts_with(name))
        })
        .map(|name| match name {
            "session" => "session not found",
            _ => "subscription not found",
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_of_this_surface_or_of_the_forms() {
        for (path, own) in [
            ("/api/v1/sessions", Some("/sessions")),
            ("/api/v1/sessions/a%2Fb", Some("/sessions/a%2Fb")),
            ("/api/v1/stats/x", Some("/stats/x")),
            ("/api/v1/sessions2", None),
            ("/api/v1/projects/1/broker", Some("")),
            ("/api/v1/projects/1/broker/stats", Some("/stats")),
            ("/api/v1/projects/1/brokers", None),
            ("/api/v1/projects/1/sessions", None),
            ("/api/v1/time", None),
            ("/v1/sessions", None),
        ] {
            assert_eq!(part(path), own, "{path}");
        }
    }

    #[test]
    fn a_slash_is_left_off_a_list_and_not_off_a_name() {
        assert!(may_trim("/api/v1/sessions/"));
        assert!(may_trim("/api/v1/projects/1/broker/sessions//"));
        assert!(may_trim("/api/v1/projects/1/sessions/a/"));
        assert!(!may_trim("/api/v1/sessions/a/"));
        assert!(!may_trim(
            "/api/v1/projects/1/broker/subscriptions/a/clients/"
        ));
    }
}
