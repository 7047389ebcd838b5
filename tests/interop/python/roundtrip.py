"""A vendor's day with the generated Python client: authenticate, create a form with a photo, page through the sessions,
follow the feed, read the photo back. Takes the file that `rollcall up --ready-file` writes, and a photo."""

import json
import sys
import uuid
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from rollcall_client import ApiClient, Configuration, CredentialsApi, FormsApi, ResourcesApi, SessionEnvelope

ready = json.loads(Path(sys.argv[1]).read_text())
photo = Path(sys.argv[2]).read_bytes()
project = ready["project_id"]


def cursor(link):
    """The cursor in a link of a page."""
    return parse_qs(urlsplit(link).query).get("page[after]", [None])[0] if link else None


def client(**credential):
    return ApiClient(Configuration(host=ready["http"], **credential))


key = client(username=ready["api_key"]["id"], password=ready["api_key"]["secret"])
token = CredentialsApi(key).create_token(max_age=600).meta.token
bearer = client(access_token=token)
forms, resources = FormsApi(bearer), ResourcesApi(bearer)

before = resources.list_events(var_from="now")
names = [str(uuid.uuid4()) for _ in range(3)]
for name in names:
    session = {"uuid": name, "unit_id": "python", "data": {"remark": "checked"}}
    forms.create_session(project, SessionEnvelope.from_dict({"session": session}), idempotency_key=name)
forms.put_attachment(project, names[0], "photo", photo, filename="photo.jpg")

# Every session, two at a time.
seen, after = [], None
while True:
    page = resources.list_all_sessions(page_size=2, page_after=after, filter_unit_id="python")
    assert len(page.data) <= 2
    seen += page.data
    after = cursor(page.links.next)
    if after is None:
        break
for name in names:
    assert sum(session.attributes.source_id == name for session in seen) == 1

# What happened since, until the photo is there.
events, after = [], cursor(before.links.next)
while not any(event.attributes.event_type == "attached" for event in events):
    page = resources.list_events(page_after=after, wait=10, filter_project=project, filter_kind="form")
    events += page.data
    after = cursor(page.links.next)
created = [event for event in events if event.attributes.event_type == "created"]
assert [event.attributes.session.attributes.source_id for event in created] == names

attachment = resources.get_session(names[0], include="attachments").data.relationships.attachments.data[0].id
assert resources.get_attachment_resource(attachment).data.attributes.length == len(photo)
assert resources.get_attachment_content(attachment) == photo
print(f"python: {len(seen)} sessions, {len(events)} events, {len(photo)} bytes read back")
