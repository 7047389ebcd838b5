-- Relays: who forwards events, for which services, and how they are doing; guests with pagers, and the gaps in what is known
-- of them.
--
-- Every new column may be left out: replicas of the version before write on while a rollout lasts.

create table relays (
    org_id uuid not null references organizations,
    id uuid not null,
    project_id bigint not null,
    name text not null,
    -- The key that it forwards with.
    key_id text not null,
    created_at timestamptz not null default now(),
    -- What it said of itself, and when; null before it first did.
    last_seen_at timestamptz,
    version text,
    spool_events bigint not null default 0,
    spool_bytes bigint not null default 0,
    spool_oldest_at timestamptz,
    set_aside bigint not null default 0,
    primary key (org_id, id),
    foreign key (org_id, project_id) references projects,
    foreign key (org_id, key_id) references api_keys
);

create unique index relays_by_name on relays (org_id, name collate "C");
create unique index relays_by_key on relays (org_id, key_id);

alter table services
    -- The relay that speaks for the service; null where sessions come from elsewhere.
    add column relay_id uuid,
    -- What the service counts of itself, in its kind's words, and when it said so by its relay's clock.
    add column statistics jsonb,
    add column reported_at timestamptz,
    add foreign key (org_id, relay_id) references relays (org_id, id);

create index services_by_relay on services (org_id, relay_id, name collate "C") where relay_id is not null;

-- Events that a service will never have, and why.
create table gaps (
    org_id uuid not null,
    service text not null,
    -- The id that the relay gave the event which tells of it.
    id uuid not null,
    at timestamptz not null,
    events bigint,
    since timestamptz,
    until timestamptz,
    reason text not null,
    received_at timestamptz not null default now(),
    primary key (org_id, service, id),
    foreign key (org_id, service) references services
);

create index gaps_by_time on gaps (org_id, service, at, id);

alter table sessions
    -- Of a pager: its number; and what is known of the guest beyond what every session has.
    add column number integer,
    add column facts jsonb;

alter table events
    -- The id that the event has at its source, where it has one: a repeat is known by it.
    add column source_event uuid;

create unique index events_by_source_event on events (org_id, source_event) where source_event is not null;

create index sessions_by_number on sessions (org_id, number, created_at, id) where number is not null;

-- The form intake lists by save; what other kinds a project has does not lie in its way.
drop index sessions_by_save;
create index sessions_by_save on sessions (org_id, project_id, deleted, saved_at, id) where kind = 'form';

-- Made anew, so that it comes after them: see 0003. The owner is held to row-level security too, and would check no row.
alter table sessions no force row level security;
alter table events no force row level security;
alter table attachments no force row level security;
alter table events drop constraint events_org_id_session_id_fkey;
alter table attachments drop constraint attachments_org_id_session_id_fkey;
alter table sessions drop constraint sessions_pkey;
alter table sessions add primary key (org_id, id);
alter table events add foreign key (org_id, session_id) references sessions;
alter table attachments add foreign key (org_id, session_id) references sessions;
alter table sessions force row level security;
alter table events force row level security;
alter table attachments force row level security;

alter table relays enable row level security;
alter table relays force row level security;
create policy tenant on relays to rollcall_app
    using (org_id = any ((select string_to_array(current_setting('app.orgs'), ',')::uuid[])::uuid[]));

alter table gaps enable row level security;
alter table gaps force row level security;
create policy tenant on gaps to rollcall_app
    using (org_id = any ((select string_to_array(current_setting('app.orgs'), ',')::uuid[])::uuid[]));

grant select, insert, update on relays to rollcall_app;
grant select, insert on gaps to rollcall_app;
grant update (statistics, reported_at) on services to rollcall_app;
