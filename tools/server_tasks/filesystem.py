"""Natural chains and refusals of the filesystem server.

The user's home is the working folder, so paths from there need no more than a person would say.
"""

from __future__ import annotations

from orch_env.servers import Chance
from orch_env.servers.domains.filesystem import Filesystem
from orch_env.servers.domains.filesystem.volume import name_of
from tools.server_tasks.chains import Chain, call, chain, out, refusal, together

LOGS = "logs/run.log"


def _project(fs: Filesystem, chance: Chance) -> str:
    """The folder of one of the user's projects, from home."""
    return f"projects/{chance.pick(fs.names_in(f'{fs.shell.folder}/projects'))}"


def _note(fs: Filesystem, chance: Chance) -> str:
    names = [n for n in fs.names_in(f"{fs.shell.folder}/notes") if n.endswith(".md")]
    return f"notes/{chance.pick(names)}"


def _invoice(fs: Filesystem, chance: Chance) -> tuple[str, str]:
    """Supplier and amount of one of the user's invoices."""
    path = chance.pick([p for p in fs.nodes if p.startswith(f"{fs.shell.folder}/invoices/")])
    fields = dict(line.split(": ") for line in fs.nodes[path].text.splitlines())
    return fields.get("Supplier", ""), fields.get("Amount", "")


@chain("amount_of_an_invoice")
def _amount_of_an_invoice(fs: Filesystem, chance: Chance) -> Chain | None:
    supplier, amount = _invoice(fs, chance)
    if not supplier:
        return None
    query = chance.pick(
        (
            f"What is the amount of the invoice from {supplier}? It is somewhere in invoices.",
            f"Look through invoices for the one that {supplier} sent me and show it to me.",
        )
    )
    return Chain(
        query,
        call("grep", pattern=supplier, paths=["invoices"], recursive=True, fixed=True),
        call("cat", paths=[out(0, "/paths/0")]),
        answer=amount,
    )


@chain("invoice_into_a_new_folder")
def _invoice_into_a_new_folder(fs: Filesystem, chance: Chance) -> Chain | None:
    supplier, _ = _invoice(fs, chance)
    if not supplier:
        return None
    folder = chance.pick(("for-audit", "to-check", "disputed"))
    return Chain(
        f"Make a folder {folder} and copy the invoice from {supplier} to it; it is in invoices.",
        together(
            call("grep", pattern=supplier, paths=["invoices"], recursive=True, show="files"),
            call("mkdir", paths=[folder]),
        ),
        call("cp", sources=[out(0, "/paths/0")], target=out(1, "/made/0")),
    )


@chain("pack_a_project")
def _pack_a_project(fs: Filesystem, chance: Chance) -> Chain | None:
    project = _project(fs, chance)
    archive = f"{name_of(project)}.tar"
    query = chance.pick(
        (
            f"Pack {project} into {archive}, show me what is in it and move it to "
            "/srv/shared/incoming.",
            f"I want to hand over {project}: put it into an archive {archive}, list the archive, "
            "and move it to /srv/shared/incoming.",
        )
    )
    return Chain(
        query,
        call("tar_create", archive=archive, paths=[project]),
        call("tar_list", archive=out(0, "/archive")),
        call("mv", sources=[out(0, "/archive")], target="/srv/shared/incoming", after=(1,)),
    )


@chain("unpack_an_archive")
def _unpack_an_archive(fs: Filesystem, chance: Chance) -> Chain | None:
    query = chance.pick(
        (
            "Find the tar archive in my home folder, tell me what is in it and unpack it into "
            "downloads.",
            "There is one archive (*.tar) among my files. List it, then extract it to downloads.",
        )
    )
    return Chain(
        query,
        call("find", name="*.tar"),
        call("tar_list", archive=out(0, "/paths/0")),
        call("tar_extract", archive=out(0, "/paths/0"), folder="downloads"),
    )


@chain("where_a_link_leads")
def _where_a_link_leads(fs: Filesystem, chance: Chance) -> Chain | None:
    query = chance.pick(
        (
            "Where does the link current lead? Draw the tree of that folder.",
            "Show me the folder tree behind the link current.",
        )
    )
    return Chain(query, call("readlink", path="current"), call("tree", path=out(0, "/target")))


@chain("sums_of_a_file_behind_a_link")
def _sums_of_a_file_behind_a_link(fs: Filesystem, chance: Chance) -> Chain | None:
    name = chance.pick(("README.md", "config.ini"))
    return Chain(
        f"What is the real path of current/{name}, and what are its MD5 and SHA-256 sums?",
        call("realpath", path=f"current/{name}"),
        together(
            call("md5sum", paths=[out(0, "/path")]), call("sha256sum", paths=[out(0, "/path")])
        ),
    )


@chain("free_some_room")
def _free_some_room(fs: Filesystem, chance: Chance) -> Chain | None:
    query = chance.pick(
        (
            "How much of my quota is used? Remove all .tmp files in downloads and look again.",
            "Check my quota, delete downloads/*.tmp and tell me how much is free then.",
        )
    )
    return Chain(
        query,
        call("quota"),
        call("rm", paths=["downloads/*.tmp"], after=(0,)),
        call("quota", after=(1,)),
    )


@chain("remove_the_empty_folder")
def _remove_the_empty_folder(fs: Filesystem, chance: Chance) -> Chain | None:
    query = chance.pick(
        (
            "One folder among my files is empty. Find it and remove it.",
            "Please remove the only empty folder below my home folder.",
        )
    )
    return Chain(
        query,
        call("find", kind="folder", empty=True),
        call("rmdir", path=out(0, "/paths/0")),
    )


@chain("let_a_script_run")
def _let_a_script_run(fs: Filesystem, chance: Chance) -> Chain | None:
    query = chance.pick(
        (
            "I cannot run scripts/report.sh. Look at its permissions and give me the right to.",
            "Check who may run scripts/report.sh and make it executable for me.",
        )
    )
    return Chain(
        query,
        call("stat", path="scripts/report.sh"),
        call("chmod", mode="u+x", paths=[out(0, "/path")]),
    )


@chain("share_a_note_with_the_staff")
def _share_a_note(fs: Filesystem, chance: Chance) -> Chain | None:
    note = _note(fs, chance)
    return Chain(
        f"Am I in the group staff? If so, give {note} to that group and let the group write to it.",
        call("id"),
        call("chgrp", group="staff", paths=[note], after=(0,)),
        call("chmod", mode="g+w", paths=[note], after=(1,)),
    )


@chain("change_a_setting")
def _change_a_setting(fs: Filesystem, chance: Chance) -> Chain | None:
    config = f"{_project(fs, chance)}/config.ini"
    old, new = "debug=true", "debug=false"
    query = chance.pick(
        (
            f"Show me {config} with {old} replaced by {new}; then change the file, and compare "
            f"it with {config}.bak, the older one.",
            f"In {config} I want {new} in place of {old}. Print the result first, then make the "
            f"change and show how the file differs from {config}.bak.",
        )
    )
    return Chain(
        query,
        call("sed", path=config, pattern=old, replacement=new),
        call("sed_in_place", path=config, pattern=old, replacement=new, after=(0,)),
        call("diff", path=f"{config}.bak", other=out(1, "/path")),
    )


@chain("new_suppliers")
def _new_suppliers(fs: Filesystem, chance: Chance) -> Chain | None:
    old, new = "/srv/shared/suppliers-2024.txt", "/srv/shared/suppliers.txt"
    target = chance.pick(("new-suppliers.txt", "added.txt"))
    return Chain(
        f"Which suppliers are in {new} and not in {old}? Write them to {target} and count them.",
        call("comm", path=old, other=new, show="only_second"),
        call("write_file", path=target, text=out(0, "/output")),
        call("wc", paths=[out(1, "/path")], count="lines"),
    )


@chain("dearest_items")
def _dearest_items(fs: Filesystem, chance: Chance) -> Chain | None:
    count = chance.between(2, 4)
    return Chain(
        "Sort /srv/shared/price-list.csv by price, which is field 2 after a comma, the highest "
        f"first, save it as by-price.csv and show me the first {count} lines.",
        call(
            "sort",
            path="/srv/shared/price-list.csv",
            key=2,
            separator=",",
            numeric=True,
            reverse=True,
        ),
        call("write_file", path="by-price.csv", text=out(0, "/output")),
        call("head", path=out(1, "/path"), lines=count),
    )


@chain("visitors_by_company")
def _visitors_by_company(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "How often did each company visit? notes/visitors.txt has a line for each visit; save the "
        "sorted lines as visits.txt and count the equal ones.",
        call("sort", path="notes/visitors.txt"),
        call("write_file", path="visits.txt", text=out(0, "/output")),
        call("uniq", path=out(1, "/path"), count=True),
    )


@chain("own_phone_list")
def _own_phone_list(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Take the names and extensions, fields 1,2 of /srv/shared/phones.csv with a comma between, "
        "write them to phones.txt and keep that file to myself (mode 600).",
        call("cut", path="/srv/shared/phones.csv", fields="1,2", separator=","),
        call("write_file", path="phones.txt", text=out(0, "/output")),
        call("chmod", mode="600", paths=[out(1, "/path")]),
    )


@chain("errors_of_a_project")
def _errors_of_a_project(fs: Filesystem, chance: Chance) -> Chain | None:
    project = _project(fs, chance)
    count = chance.between(3, 6)
    return Chain(
        f"How many lines of {project}/{LOGS} say ERROR, and what are its last {count} lines?",
        together(
            call("grep", pattern="ERROR", paths=[f"{project}/{LOGS}"], show="count"),
            call("tail", path=f"{project}/{LOGS}", lines=count),
        ),
    )


@chain("cut_a_log_into_pieces")
def _cut_a_log_into_pieces(fs: Filesystem, chance: Chance) -> Chain | None:
    log = f"{_project(fs, chance)}/{LOGS}"
    size = chance.between(8, 14)
    return Chain(
        f"Cut {log} into files of {size} lines each, named part- and letters, and show me the "
        "first one.",
        call("split", path=log, lines=size, prefix="part-"),
        call("cat", paths=[out(0, "/pieces/0")]),
    )


@chain("work_in_a_folder")
def _work_in_a_folder(fs: Filesystem, chance: Chance) -> Chain | None:
    project = _project(fs, chance)
    query = chance.pick(
        (
            f"Go to {project}, tell me the full path and list everything in long form.",
            f"Change to the folder {project}. Where am I then, and what is there, in long form?",
        )
    )
    return Chain(
        query,
        call("cd", path=project),
        together(call("pwd", after=(0,)), call("ls", long=True, after=(0,))),
    )


@chain("private_by_default")
def _private_by_default(fs: Filesystem, chance: Chance) -> Chain | None:
    folder = chance.pick(("private", "personal", "drafts"))
    return Chain(
        f"Set my umask to 077, then make a folder {folder} with an empty file {folder}/keys.txt "
        "and show its permissions.",
        call("umask", mask="077"),
        call("mkdir", paths=[folder], after=(0,)),
        call("touch", paths=[f"{folder}/keys.txt"], after=(1,)),
        call("stat", path=out(2, "/touched/0")),
    )


@chain("what_takes_the_room")
def _what_takes_the_room(fs: Filesystem, chance: Chance) -> Chain | None:
    project = _project(fs, chance)
    return Chain(
        f"How many bytes does {project} take, and which file in it has more than 4000? Show me the "
        "first 2 lines of that file.",
        together(call("du", path=project), call("find", path=project, larger_than=4000)),
        call("head", path=out(1, "/paths/0"), lines=2),
    )


@chain("empty_an_old_log")
def _empty_an_old_log(fs: Filesystem, chance: Chance) -> Chain | None:
    log = f"{_project(fs, chance)}/{LOGS}.1"
    return Chain(
        f"Copy {log} to downloads and then cut the original to 0 bytes.",
        call("cp", sources=[log], target="downloads"),
        call("truncate", path=log, size=0, after=(0,)),
    )


@chain("link_to_the_price_list")
def _link_to_the_price_list(fs: Filesystem, chance: Chance) -> Chain | None:
    name = chance.pick(("prices", "price-list"))
    return Chain(
        f"Make a link {name} in my home folder to /srv/shared/price-list.csv, and check where it "
        "leads.",
        call("symlink", target="/srv/shared/price-list.csv", path=name),
        call("realpath", path=out(0, "/path")),
    )


# -- refusals ----------------------------------------------------------------------------------


@refusal("not_found")
def _not_found(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Show me handbook.txt.",
        call("ls"),
        call("cat", paths=["handbook.txt"]),
    )


@refusal("permission_denied")
def _permission_denied(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "What is in /var/log/access.log?",
        call("ls", paths=["/var/log"]),
        call("tail", path="/var/log/access.log"),
    )


@refusal("not_permitted")
def _not_permitted(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Let everybody write to /srv/shared/handbook.txt.",
        call("stat", path="/srv/shared/handbook.txt"),
        call("chmod", mode="a+w", paths=["/srv/shared/handbook.txt"]),
    )


@refusal("not_a_folder")
def _not_a_folder(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Put all .tmp files of downloads together into notes/todo.txt.",
        call("find", path="downloads", name="*.tmp"),
        call("mv", sources=["downloads/*.tmp"], target="notes/todo.txt"),
    )


@refusal("is_a_folder")
def _is_a_folder(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Remove downloads.", call("ls", paths=["downloads"]), call("rm", paths=["downloads"])
    )


@refusal("not_empty")
def _not_empty(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Remove the folder scripts.",
        call("cd", path="scripts"),
        call("cd", path=".."),
        call("rmdir", path="scripts"),
    )


@refusal("already_exists")
def _already_exists(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Make folders reports and notes.",
        call("mkdir", paths=["reports"]),
        call("mkdir", paths=["notes"]),
    )


@refusal("quota_exceeded")
def _quota_exceeded(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Copy projects with all that is in it to copy-1 and to copy-2.",
        call("cp", sources=["projects"], target="copy-1", recursive=True),
        call("cp", sources=["projects"], target="copy-2", recursive=True),
    )


@refusal("busy")
def _busy(fs: Filesystem, chance: Chance) -> Chain | None:
    project = _project(fs, chance)
    return Chain(
        f"Go to {project}, look around and remove it.",
        call("cd", path=project),
        call("ls"),
        call("rm", paths=[f"../{name_of(project)}"], recursive=True),
    )


@refusal("needs_recursive")
def _needs_recursive(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Copy scripts to downloads.",
        call("ls", paths=["scripts"]),
        call("cp", sources=["scripts"], target="downloads"),
    )


@refusal("into_itself")
def _into_itself(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Move notes into a new folder notes/old.",
        call("mkdir", paths=["notes/old"]),
        call("mv", sources=["notes"], target="notes/old"),
    )


@refusal("same_file")
def _same_file(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Make a link todo to notes/todo.txt and copy the file to it.",
        call("symlink", target="notes/todo.txt", path="todo"),
        call("cp", sources=["notes/todo.txt"], target="todo"),
    )


@refusal("same_name_twice")
def _same_name_twice(fs: Filesystem, chance: Chance) -> Chain | None:
    one, other, *_ = fs.names_in(f"{fs.shell.folder}/projects")
    return Chain(
        f"Copy the README.md of projects/{one} and of projects/{other} to downloads.",
        call("ls", paths=["projects"]),
        call(
            "cp",
            sources=[f"projects/{one}/README.md", f"projects/{other}/README.md"],
            target="downloads",
        ),
    )


@refusal("onto_a_folder")
def _onto_a_folder(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Make a file scratch/notes and move it to my home folder.",
        call("mkdir", paths=["scratch"]),
        call("touch", paths=["scratch/notes"]),
        call("mv", sources=["scratch/notes"], target="."),
    )


@refusal("onto_a_file")
def _onto_a_file(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Make a folder ideas and give it the name notes/todo.txt.",
        call("mkdir", paths=["ideas"]),
        call("mv", sources=["ideas"], target="notes/todo.txt"),
    )


@refusal("dangling_link")
def _dangling_link(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Copy notes/todo.txt over handbook.txt.",
        call("readlink", path="handbook.txt"),
        call("cp", sources=["notes/todo.txt"], target="handbook.txt"),
    )


@refusal("too_many_links")
def _too_many_links(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Make a link here to there, one there to here, and show here.",
        call("symlink", target="there", path="here"),
        call("symlink", target="here", path="there"),
        call("cat", paths=["here"]),
    )


@refusal("not_a_link")
def _not_a_link(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain("Where does the link notes lead?", call("ls"), call("readlink", path="notes"))


@refusal("unknown_group")
def _unknown_group(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Give scripts to the group admins.",
        call("id"),
        call("chgrp", group="admins", paths=["scripts"]),
    )


@refusal("archive_file")
def _archive_file(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Show me old-letters.tar.",
        call("find", name="*.tar"),
        call("cat", paths=[out(0, "/paths/0")]),
    )


@refusal("not_an_archive")
def _not_an_archive(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Unpack downloads/bookings.csv.",
        call("ls", paths=["downloads"]),
        call("tar_extract", archive="downloads/bookings.csv"),
    )


@refusal("not_in_archive")
def _not_in_archive(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Unpack notes.txt from old-letters.tar.",
        call("tar_list", archive="old-letters.tar"),
        call("tar_extract", archive="old-letters.tar", members=["notes.txt"]),
    )


@refusal("not_sorted")
def _not_sorted(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Which lines of notes/list.txt and notes/visitors.txt are the same?",
        call("write_file", path="notes/list.txt", text="z\na\n"),
        call("comm", path="notes/list.txt", other="notes/visitors.txt"),
    )


@refusal("bad_pattern")
def _bad_pattern(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Search notes/todo.txt for (unclosed.",
        call("wc", paths=["notes/todo.txt"]),
        call("grep", pattern="(unclosed", paths=["notes/todo.txt"]),
    )


@refusal("name_too_long")
def _name_too_long(fs: Filesystem, chance: Chance) -> Chain | None:
    return Chain(
        "Make a folder with a name of 300 letters x.",
        call("pwd"),
        call("mkdir", paths=["x" * 300]),
    )
