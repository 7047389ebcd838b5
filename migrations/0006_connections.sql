-- Clients of brokers and proxies: what their sessions are narrowed and sorted by, what they subscribe to, and how their
-- services are watched.
--
-- Every new column may be left out: replicas of the version before write on while a rollout lasts.

alter table services
    -- How its relay watches it, and what a broker says of itself; null where nothing is watched.
    add column watch jsonb;

alter table sessions
    -- On a broker, the client's id as broker tools know it.
    add column client_id text,
    add column protocol text,
    -- Whether the client is there; null where the session is none of a client.
    add column connected boolean,
    -- Messages that were sent and not acknowledged, and those that wait.
    add column inflight bigint,
    add column queue_depth bigint,
    add column idle_since timestamptz;

-- What brokers' tools list: every session that a broker has, by the bytes of its client's id; of several of one id the
-- connected one first, then the latest. What they narrow by is in there too, so that rows they do not want are not read.
create index sessions_by_client on sessions (org_id, client_id collate "C", connected desc, created_at desc, id)
    include (kind) where client_id is not null and active;
create index sessions_by_client_in_project on sessions
    (org_id, project_id, client_id collate "C", connected desc, created_at desc, id, service)
    include (kind) where client_id is not null and active;
-- Those that are history too.
create index sessions_by_client_id on sessions (org_id, client_id, created_at, id) where client_id is not null;
create index sessions_by_protocol on sessions (org_id, protocol, created_at, id) where protocol is not null;
create index sessions_by_remote on sessions (org_id, remote, created_at, id) where remote is not null;
create index sessions_by_inflight on sessions (org_id, inflight, id) where inflight is not null;
create index sessions_by_queue_depth on sessions (org_id, queue_depth, id) where queue_depth is not null;
create index sessions_by_idle on sessions (org_id, idle_since, id) where idle_since is not null;

-- A row for each subscription of a session that a broker has. Made anew whenever one of them changes.
create table subscriptions (
    org_id uuid not null,
    session_id uuid not null,
    filter text not null,
    project_id bigint not null,
    service text not null,
    client_id text not null,
    qos smallint not null,
    connected boolean not null,
    primary key (org_id, session_id, filter),
    foreign key (org_id, session_id) references sessions
);

-- A filter's clients are counted from the index alone.
create index subscriptions_by_filter on subscriptions (org_id, filter collate "C", client_id collate "C", session_id)
    include (connected, qos);
create index subscriptions_by_filter_in_project on subscriptions
    (org_id, project_id, filter collate "C", client_id collate "C", session_id, service) include (connected, qos);

-- Made anew, so that it comes after them: see 0003. The owner is held to row-level security too, and would check no row.
alter table sessions no force row level security;
alter table events no force row level security;
alter table attachments no force row level security;
alter table commands no force row level security;
alter table subscriptions drop constraint subscriptions_org_id_session_id_fkey;
alter table events drop constraint events_org_id_session_id_fkey;
alter table attachments drop constraint attachments_org_id_session_id_fkey;
alter table commands drop constraint commands_org_id_session_id_fkey;
alter table sessions drop constraint sessions_pkey;
alter table sessions add primary key (org_id, id);
alter table events add foreign key (org_id, session_id) references sessions;
alter table attachments add foreign key (org_id, session_id) references sessions;
alter table commands add foreign key (org_id, session_id) references sessions;
alter table subscriptions add foreign key (org_id, session_id) references sessions;
alter table sessions force row level security;
alter table events force row level security;
alter table attachments force row level security;
alter table commands force row level security;

alter table subscriptions enable row level security;
alter table subscriptions force row level security;
create policy tenant on subscriptions to rollcall_app
    using (org_id = any ((select string_to_array(current_setting('app.orgs'), ',')::uuid[])::uuid[]));
grant select, insert, delete on subscriptions to rollcall_app;
grant update (watch, state) on services to rollcall_app;
