-- Commands: what services behind relays are told to do, and what became of it.

create table commands (
    org_id uuid not null,
    id uuid not null,
    -- The order in which they were given; of one service that is also the order of commits.
    number bigint not null generated always as identity,
    project_id bigint not null,
    service text not null,
    -- Who is to carry it out: the service's relay.
    relay_id uuid not null,
    -- The session that is meant; of a command that makes one, the one that it made, once that is known.
    session_id uuid,
    -- What is to be done, as the relay is told.
    "order" jsonb not null,
    -- The key that gave it.
    created_by text not null,
    created_at timestamptz not null default now(),
    -- Not carried out after this.
    expires_at timestamptz not null,
    -- When a relay was told first.
    delivered_at timestamptz,
    -- queued, delivered; then done, refused, expired or unknown.
    status text not null default 'queued',
    finished_at timestamptz,
    -- What its relay said of it; without one, what ended it was time.
    report jsonb,
    primary key (org_id, id),
    foreign key (org_id, service) references services,
    foreign key (org_id, relay_id) references relays,
    foreign key (org_id, session_id) references sessions,
    foreign key (org_id, created_by) references api_keys
);

-- What a relay is told.
create index commands_open on commands (org_id, relay_id, number) where finished_at is null;
-- What time ends.
create index commands_by_expiry on commands (org_id, expires_at) where finished_at is null;
create index commands_by_time on commands (org_id, created_at, id);
create index commands_by_project on commands (org_id, project_id, created_at, id);
create index commands_by_service on commands (org_id, service, created_at, id);
create index commands_by_status on commands (org_id, status, created_at, id);
create index commands_by_session on commands (org_id, session_id, created_at, id) where session_id is not null;

alter table commands enable row level security;
alter table commands force row level security;
create policy tenant on commands to rollcall_app
    using (org_id = any ((select string_to_array(current_setting('app.orgs'), ',')::uuid[])::uuid[]));

grant select, insert on commands to rollcall_app;
grant update (session_id, delivered_at, status, finished_at, report) on commands to rollcall_app;
