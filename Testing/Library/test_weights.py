"""Weights by name and by what a scan shows, and weights that are fetched: what is found, what is refused, what goes on where it stopped."""

import hashlib
import http.server
import json
import sys
import threading

import numpy as np
import pytest
import torch

from SparseCTReconLib import downloads, resources, weight_files, weights
from SparseCTReconLib.errors import InputError
from SparseCTReconLib.weights import Kind

PLAYED = Kind("played", "played 1", "played")
OTHER = Kind("other", "other 1", "other")


def write(folder, name, kind=PLAYED, **card):
    """A file of weights; "views" in its card are of its range."""
    if views := card.pop("views", None):
        card["range"] = {"numbers": {"views": views}}
    path = folder / f"{name}.safetensors"
    weight_files.write(path, kind.form, card, {"w": np.arange(30_000.0)})
    return path


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The user's folder, the library's and that of fetched weights, empty."""
    made = {name: tmp_path / name for name in ("own", "shipped", "cache")}
    (made["cache"] / "weights").mkdir(parents=True)
    made["own"].mkdir()
    (made["shipped"] / "Weights").mkdir(parents=True)
    monkeypatch.setenv(weights.VARIABLE, str(made["own"]))
    monkeypatch.setenv("SPARSECTRECON_CACHE", str(made["cache"]))
    monkeypatch.setattr(resources, "_PLACES", (made["shipped"],))
    return {"own": made["own"], "shipped": made["shipped"] / "Weights", "fetched": made["cache"] / "weights"}


def refused(match, code, do, *arguments):
    with pytest.raises(InputError, match=match) as caught:
        do(*arguments)
    assert caught.value.code == code and "\n" not in str(caught.value)


# --- finding ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["own", "shipped", "fetched"])
def test_weights_are_found_by_name_with_or_without_the_methods_wherever_they_lie(places, place):
    path = write(places[place], "played_limb")
    assert weights.find("limb", PLAYED) == weights.find("played_limb", PLAYED) == weights.find(str(path), PLAYED) == path


def test_the_users_own_come_before_the_librarys_and_these_before_fetched_ones(places):
    found = [write(places[place], "played_limb") for place in ("fetched", "shipped", "own")]
    for path in reversed(found):
        assert weights.find("limb", PLAYED) == path
        path.unlink()


def test_all_are_listed_once_by_name_and_what_is_damaged_with_its_fault(places):
    write(places["shipped"], "b", anatomies=["head"])
    write(places["own"], "a")
    write(places["fetched"], "a", OTHER)
    (places["own"] / "half.safetensors").write_bytes(write(places["own"], "c").read_bytes()[:-9])
    (places["own"] / ".writing-d.safetensors").write_bytes(b"")
    found = weights.known()
    assert [each.name for each in found] == ["a", "b", "c", "half"]
    assert found[1].card == {"anatomies": ["head"]} and found[0].form == "played 1"
    assert "cannot be read" in found[3].fault and not found[3].card
    assert [each.name for each in weights.known(OTHER)] == []


def test_what_is_no_such_name_or_file_is_refused_with_what_there_is(places, tmp_path):
    write(places["own"], "played_limb")
    write(places["own"], "other_chest", OTHER)
    refused("no weights 'lim'; did you mean 'limb'", "unknown-weights", weights.find, "lim", PLAYED)
    refused("no weights 'chest'", "unknown-weights", weights.find, "chest", PLAYED)
    refused("weights=gone.safetensors: there is no such file", "no-such-file", weights.find, "gone.safetensors", PLAYED)
    refused("no such file", "no-such-file", weights.find, str(tmp_path / "gone"), PLAYED)
    torch.save({}, tmp_path / "ep_400.pth")
    refused("may hold code.*weights convert", "bad-weights", weights.find, str(tmp_path / "ep_400.pth"), PLAYED)


def chosen(views=8, shown="limb", choice=weights.AUTO):
    return weights.choose(choice, PLAYED, views, lambda: shown).stem


def test_auto_takes_those_for_what_the_scan_shows_and_the_nearest_views(places):
    write(places["shipped"], "played_head", anatomies=["head"], views=[6, 10])
    write(places["shipped"], "played_limb-6", anatomies=["limb"], views=[6, 6])
    write(places["shipped"], "played_limb-10", anatomies=["limb", "foot"], views=[10, 10])
    write(places["own"], "played_older", anatomies=["limb"])
    write(places["own"], "other_limb", OTHER, anatomies=["limb"], views=[8, 8])
    assert chosen(shown="head") == "played_head"
    assert chosen(7) == "played_limb-6" and chosen(9) == "played_limb-10" and chosen(40) == "played_limb-10"
    assert chosen(9, "head", "limb-6") == "played_limb-6"
    refused("no weights of played for what seems to be a scan of the chest.*head, limb-10, limb-6, older", "no-weights", chosen, 8, "chest")


def test_without_any_weights_it_says_how_to_get_some_and_does_not_look_at_the_scan(places):
    do = (weights.choose, weights.AUTO, PLAYED, 8, lambda: pytest.fail("looked"))
    refused("no weights for played: train some .*sparsectrecon weights --help.*admm-tv", "no-weights", *do)


# --- fetching --------------------------------------------------------------------------------------------------------------------------


class Server:
    """A server of one file, which can stop early, refuse ranges, or say that there is nothing."""

    def __init__(self, content):
        self.content, self.stop_after, self.ranges, self.status, self.asked = content, None, True, 200, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *ignored):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, request):
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        if self.status != 200:
            return request.send_error(self.status)
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if first >= len(self.content):
            return request.send_error(416)
        request.send_response(206 if first else 200)
        request.send_header("Content-Length", str(len(self.content) - first))
        request.end_headers()
        request.wfile.write(self.content[first : self.stop_after])
        return None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}/folder/played_limb.safetensors?download=true"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server(tmp_path, places):
    pytest.importorskip("pooch", reason="pooch is not installed: pip install pooch")
    made = Server(write(tmp_path, "limb", anatomies=["limb"]).read_bytes())
    yield made
    made.close()


def source(server, content=None):
    return downloads.source(server.url, hashlib.sha256(content or server.content).hexdigest())


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_weights_are_fetched_whole_and_found_by_name_and_are_not_fetched_twice(server, places):
    told = []
    path = downloads.fetch(source(server), True, lambda *figures: told.append(figures))
    assert path.read_bytes() == server.content and path == places["fetched"] / "played_limb.safetensors"
    assert told[-1] == (len(server.content),) * 2 and weights.find("limb", PLAYED) == path
    assert downloads.fetch(source(server), True) == path
    assert len(server.asked) == 1 and files(places["fetched"]) == [path.name]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_stopped_goes_on_where_it_was(server, places, ranges):
    server.stop_after, server.ranges = 150_000, ranges
    refused("could not be fetched whole.*try again", "no-download", downloads.fetch, source(server), True)
    assert not [name for name in files(places["fetched"]) if name.endswith(".safetensors")] and not weights.known()
    server.stop_after = None
    assert downloads.fetch(source(server), True).read_bytes() == server.content
    assert server.asked == [None, f"bytes={2 * downloads.PIECE}-"] and len(files(places["fetched"])) == 1


def test_what_was_whole_but_for_its_name_is_not_fetched_again(server, places):
    of = source(server)
    (places["fetched"] / f".part-{of.sha256[:16]}").write_bytes(server.content)
    assert downloads.fetch(of, True).read_bytes() == server.content


def test_what_has_another_checksum_is_thrown_away(server, places):
    refused("another checksum", "bad-checksum", downloads.fetch, source(server, b"other"), True)
    assert files(places["fetched"]) == []


@pytest.mark.parametrize("content", [b"no weights at all", "changed", "no card"])
def test_what_is_no_weights_is_thrown_away_though_its_checksum_is_right(server, places, content, tmp_path):
    if content == "changed":
        content = server.content[:-8] + b"\0\0\0\0\0\0\1\0"
    elif content == "no card":
        from safetensors.numpy import save

        content = save({"w": np.zeros(3)})
    server.content = content
    with pytest.raises(InputError, match="cannot be read as safetensors|checksum is wrong|has no card"):
        downloads.fetch(source(server), True)
    assert files(places["fetched"]) == []


def test_a_server_that_has_nothing_or_is_not_there_is_said(server, places):
    server.status = 404
    refused("could not be fetched whole.*404", "no-download", downloads.fetch, source(server), True)
    of = source(server)
    server.close()
    refused("could not be fetched", "no-download", downloads.fetch, of, True)


def test_nothing_is_fetched_before_the_licence_is_accepted(server):
    refused("has a licence.*--accept-licence", "licence", downloads.fetch, source(server), False)
    of = downloads.Source(server.url, "0" * 64, "CC BY 4.0")
    refused("under this licence: CC BY 4.0", "licence", downloads.fetch, of, False)
    assert server.asked == []


def test_without_pooch_it_says_how_to_install_it(places, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    refused("needs pooch: pip install", "missing-library", downloads.fetch, downloads.Source("https://a.b/c.safetensors", "0" * 64), True)


def test_names_of_the_list_are_known_and_others_refused_with_the_nearest(places):
    refused("no weights to fetch are called 'limb'; there are none yet", "unknown-weights", downloads.source, "limb")
    about = {"url": "https://a.b/deepsparse_knee.safetensors", "sha256": "a" * 64, "licence": "CC BY 4.0", "megabytes": 14.5}
    (places["shipped"] / "downloads.json").write_text(json.dumps({"deepsparse_knee": about}))
    assert downloads.source("deepsparse_knee") == downloads.Source(**about)
    refused("did you mean 'deepsparse_knee'", "unknown-weights", downloads.source, "knee_deepsparse")
    (places["shipped"] / "downloads.json").write_text("[1")
    refused("downloads.json cannot be read", "missing-resource", downloads.source, "limb")


@pytest.mark.parametrize(
    "url, sha256, match",
    [
        ("https://a.b/c.safetensors", "", "give its checksum too, --sha256"),
        ("https://a.b/c.safetensors", "12", "'12' is no SHA-256"),
        ("file:///c.safetensors", "0" * 64, "give an address http"),
        ("https://a.b/ep_400.pth", "0" * 64, "of a .safetensors file"),
    ],
)
def test_addresses_that_cannot_be_right_are_refused(url, sha256, match):
    refused(match, "bad-arguments", downloads.source, url, sha256)
