"""Settings come from four places, later wins, and nothing that was set is ignored."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import pytest
import symbi
from symbi.config import SETTINGS, Config, Origin, configure_logging
from symbi.config.document import tables
from symbi.config.settings import CONFIG_PATH_VARIABLE, OTHER_VARIABLES, Setting, url_places
from symbi.config.sources import FILE_BYTES_MAX, resolve
from symbi.config.values import Number, Text, Url

ROOT = Path(__file__).parents[2]

# What the specification names. Each is read, or refused by name; none is accepted and ignored.
SPECIFIED_KEYS = [
    "runtime.max_concurrent_agents",
    "runtime.scheduler_threads",
    "runtime.message_buffer_size",
    "runtime.gc_interval_ms",
    "security.default_sandbox_tier",
    "security.enforce_policies",
    "security.audit_enabled",
    "security.crypto_provider",
    "context.vector_backend",
    "context.vector_data_path",
    "context.vector_db_url",
    "context.embedding_dimension",
    "context.context_cache_size",
    "context.knowledge_retention_days",
    "context.qdrant.host",
    "context.qdrant.port",
    "mcp.discovery_enabled",
    "mcp.tool_verification",
    "mcp.connection_timeout_s",
    "mcp.max_concurrent_connections",
    "policy.paths",
]
SPECIFIED_VARIABLES = [
    "SYMBI_LOG_LEVEL",
    "SYMBI_RUNTIME_MODE",
    "SYMBI_CONFIG_PATH",
    "SYMBI_CRYPTO_PROVIDER",
    "SYMBI_AUDIT_STORAGE",
    "SYMBIONT_VECTOR_BACKEND",
    "SYMBIONT_VECTOR_DATA_PATH",
    "SYMBIONT_VECTOR_HOST",
    "SYMBIONT_VECTOR_PORT",
    "QDRANT_URL",
    "OPENAI_API_KEY",
    "MCP_SERVER_DISCOVERY",
    "RUST_LOG",
]

DEVELOPMENT = {"runtime.mode": "development"}


def write(folder: Path, text: str) -> Path:
    file = folder / "symbi.toml"
    file.write_text(text, encoding="utf-8")
    return file


def refusal(path: Path | None = None, environ: dict[str, str] | None = None, **overrides: object) -> str:
    """The whole text of the error that these settings give."""
    named = {key.replace("__", "."): value for key, value in overrides.items()}
    with pytest.raises(symbi.ConfigError) as caught:
        Config.load(path, environ=environ or {}, overrides=named)
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


def test_every_key_and_variable_of_the_specification_has_a_row() -> None:
    """CS1."""
    assert set(SPECIFIED_KEYS) <= {setting.key for setting in SETTINGS if setting.in_file}
    variables = {name for setting in SETTINGS for name in setting.variables} | {CONFIG_PATH_VARIABLE}
    assert set(SPECIFIED_VARIABLES) <= variables


def test_no_key_and_no_variable_stands_in_two_rows() -> None:
    keys = [setting.key for setting in SETTINGS]
    variables = [name for setting in SETTINGS for name in setting.variables]
    assert len(set(keys)) == len(keys)
    assert len(set(variables)) == len(variables)
    assert not set(variables) & set(OTHER_VARIABLES)


def test_the_typed_view_has_exactly_the_settings_that_have_a_part() -> None:
    """CS2: what does not exist has no field that a program could read."""
    config = Config.load(environ={})
    sections = ("runtime", "scheduler", "security", "policy", "audit", "supervision", "log")
    fields = {
        f"{section}.{field.name}"
        for section in sections
        for field in dataclasses.fields(getattr(config, section))
    }
    assert fields == {setting.key for setting in SETTINGS if setting.built}


def test_without_any_place_the_defaults_hold() -> None:
    config = Config.load(environ={})
    assert config.runtime.mode == "production"
    assert config.runtime.max_concurrent_agents == 10_000
    assert config.runtime.scheduler_threads == len(os.sched_getaffinity(0))
    assert config.runtime.message_buffer_size == 1_048_576
    assert config.security.default_sandbox_tier == "gvisor"
    assert config.security.crypto_provider == "aws-lc"
    assert config.policy.paths == ()
    assert config.audit.storage is None
    assert config.warnings == ()
    assert set(config.origins.values()) == {Origin("default")}


def test_every_default_is_one_of_the_accepted_values() -> None:
    for setting in SETTINGS:
        value = setting.default_value()
        if value is not None:
            assert setting.kind.parse(value, ROOT) == value, setting.key


def test_a_config_does_not_change() -> None:
    """CM2."""
    config = Config.load(environ={})
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.security.enforce_policies = False  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.values["security.enforce_policies"] = False  # type: ignore[index]


def test_later_places_win_and_each_value_keeps_its_place(tmp_path: Path) -> None:
    """CC1: defaults, file, environment, command line."""
    file = write(
        tmp_path,
        '[security]\ncrypto_provider = "ring"\n[runtime]\nscheduler_threads = 3\nmode = "development"\n',
    )
    from_file = Config.load(file, environ={})
    assert from_file.security.crypto_provider == "ring"
    assert from_file.origins["security.crypto_provider"] == Origin("file", f"{file}:2")
    assert from_file.origins["runtime.scheduler_threads"] == Origin("file", f"{file}:4")
    environ = {"SYMBI_CRYPTO_PROVIDER": "aws-lc", "SYMBI_RUNTIME_MODE": "production"}
    from_variable = Config.load(file, environ=environ)
    assert from_variable.security.crypto_provider == "aws-lc"
    assert from_variable.origins["security.crypto_provider"] == Origin("environment", "SYMBI_CRYPTO_PROVIDER")
    said = Config.load(file, environ=environ, overrides=DEVELOPMENT)
    assert said.runtime.mode == "development"
    assert said.origins["runtime.mode"] == Origin("command line")
    assert said.runtime.scheduler_threads == 3


def test_the_variable_names_a_file_unless_the_caller_does(tmp_path: Path) -> None:
    """CC5: a file is read only when it was named."""
    (tmp_path / "other").mkdir()
    named = write(tmp_path, "[runtime]\nscheduler_threads = 3\n")
    other = write(tmp_path / "other", "[runtime]\nscheduler_threads = 5\n")
    environ = {CONFIG_PATH_VARIABLE: str(named)}
    assert Config.load(environ=environ).runtime.scheduler_threads == 3
    assert Config.load(environ=environ).file == named
    assert Config.load(other, environ=environ).runtime.scheduler_threads == 5


def test_a_file_that_lies_around_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CC5: a stranger's directory must not configure us."""
    write(tmp_path, "[security]\nenforce_policies = false\n")
    monkeypatch.chdir(tmp_path)
    assert Config.load(environ={}).file is None


def test_an_unknown_key_is_refused_with_line_nearest_and_accepted(tmp_path: Path) -> None:
    """CC2."""
    text = refusal(write(tmp_path, '# ours\n[security]\n\ncripto_provider = "ring"\n'))
    assert "symbi.toml:4: unknown key `security.cripto_provider`" in text
    assert "did you mean `security.crypto_provider`?" in text
    assert "`default_sandbox_tier`, `enforce_policies`, `audit_enabled`, `crypto_provider`" in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[securty]\nx = 1", "symbi.toml:1: unknown key `securty`: did you mean `security`?"),
        ("security = 1", "symbi.toml:1: `security` must be a table: write `[security]`; it is `1`"),
        ("[context]\nqdrant = 3", "symbi.toml:2: `context.qdrant` must be a table"),
        ("[runtime.mode]\nx = 1", "`runtime.mode` must be one of"),
        ("[[runtime]]\nx = 1", "symbi.toml:1: `runtime` must be a table"),
        ("[log]\nnative_filter = 'info'", "symbi.toml:2: unknown key `log.native_filter`"),
        ("mode = 'production'", "symbi.toml:1: unknown key `mode`: did you mean `runtime.mode`?"),
    ],
)
def test_what_stands_in_the_wrong_shape_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """CC2."""
    assert said in refusal(write(tmp_path, text))


@pytest.mark.parametrize(
    ("line", "accepted"),
    [
        ("runtime.scheduler_threads = 0", "a whole number from 1 to 256; it is `0`"),
        ("runtime.scheduler_threads = 1.5", "a whole number from 1 to 256; it is `1.5`"),
        ("runtime.scheduler_threads = true", "a whole number from 1 to 256; it is `true`"),
        ('runtime.scheduler_threads = "many"', 'a whole number from 1 to 256; it is `"many"`'),
        ('runtime.message_buffer_size = "1 parsec"', "plain or with a unit"),
        ("runtime.message_buffer_size = 1", "bytes from 4096 to 1073741824"),
        ('security.default_sandbox_tier = "gvisr"', '"gvisor", "docker", "degraded"; it is `"gvisr"`'),
        ("security.enforce_policies = 1", "true or false"),
        ('policy.paths = ["no-such-policies"]', "which does not exist"),
        ("policy.paths = [1]", "a list of files and directories"),
        ('audit.storage = ""', "a path"),
        ('audit.storage = "a\\u0000b"', "a path"),
        ("log.level = 3", '"error", "warning", "info", "debug"'),
    ],
)
def test_an_impossible_value_is_refused_with_what_is_accepted(
    tmp_path: Path, line: str, accepted: str
) -> None:
    """CC2, CV1."""
    key = line.split(" = ", maxsplit=1)[0]
    text = refusal(write(tmp_path, f"\n{line}\n"))
    assert f"symbi.toml:2: `{key}` must be " in text
    assert accepted in text


def test_one_run_names_every_problem(tmp_path: Path) -> None:
    text = refusal(write(tmp_path, "[runtime]\nscheduler_threads = 0\nx = 1\n"), {"SYMBI_LOG_LEVEL": "loud"})
    assert "`runtime.scheduler_threads`" in text
    assert "`runtime.x`" in text
    assert "SYMBI_LOG_LEVEL: `log.level` must be" in text


def test_an_unknown_variable_with_our_prefix_is_refused() -> None:
    """CC2."""
    text = refusal(environ={"SYMBI_LOGLEVEL": "info"})
    assert "unknown variable `SYMBI_LOGLEVEL`: did you mean `SYMBI_LOG_LEVEL`?" in text
    assert "`SYMBI_RUNTIME_MODE`" in text
    assert "unknown variable" in refusal(environ={"SYMBI_HTTP_PORT": "8080"})


def test_what_kubernetes_sets_for_a_service_of_our_name_is_no_setting() -> None:
    config = Config.load(
        environ={
            "SYMBI_RUNTIME_SERVICE_HOST": "10.0.0.1",
            "SYMBI_RUNTIME_SERVICE_PORT": "8080",
            "SYMBI_RUNTIME_SERVICE_PORT_HTTP": "8080",
            "SYMBI_RUNTIME_PORT": "tcp://10.0.0.1:8080",
            "SYMBI_RUNTIME_PORT_8080_TCP": "tcp://10.0.0.1:8080",
            "SYMBI_RUNTIME_PORT_8080_TCP_ADDR": "10.0.0.1",
        }
    )
    assert (config.runtime, config.warnings) == (Config.load(environ={}).runtime, ())


def test_an_empty_variable_is_not_set() -> None:
    assert Config.load(environ={"SYMBI_LOG_LEVEL": "", "QDRANT_URL": ""}).log.level == "warning"


def test_variables_of_ours_that_are_no_settings_are_known() -> None:
    said = {name: "1" for name in OTHER_VARIABLES if name != "SYMBI_CONFIG_PATH"}
    config = Config.load(environ=said)
    assert (config.runtime, config.audit, config.warnings) == (
        *(Config.load(environ={}).runtime, Config.load(environ={}).audit),
        (),
    )
    assert "unknown variable" in refusal(environ={"SYMBI_WHEELS": ""}), (
        "an empty one that is unknown is no less so"
    )


SAMPLES = {
    "context.vector_backend": '"lancedb"',
    "context.vector_data_path": '"./data/vectors"',
    "context.vector_db_url": '"http://localhost:6333"',
    "context.embedding_dimension": "1536",
    "context.context_cache_size": '"1GB"',
    "context.knowledge_retention_days": "365",
    "context.qdrant.host": '"localhost"',
    "context.qdrant.port": "6334",
    "mcp.discovery_enabled": "true",
    "mcp.tool_verification": '"strict"',
    "mcp.connection_timeout_s": "30",
    "mcp.max_concurrent_connections": "100",
}


def test_there_is_a_sample_of_every_key_without_a_part() -> None:
    assert set(SAMPLES) == {setting.key for setting in SETTINGS if setting.in_file and not setting.built}


@pytest.mark.parametrize(("key", "value"), SAMPLES.items())
def test_a_key_without_a_part_is_refused_when_set_right(tmp_path: Path, key: str, value: str) -> None:
    """CC4."""
    text = refusal(write(tmp_path, f"{key} = {value}\n"))
    assert (
        f"symbi.toml:1: `{key}` cannot be set: this part does not exist in this version; remove the key"
        in text
    )


@pytest.mark.parametrize("key", SAMPLES)
def test_a_key_without_a_part_is_checked_before_it_is_refused(tmp_path: Path, key: str) -> None:
    """CC4: a wrong value is told as wrong, so that it is not found only when the part exists."""
    assert f"`{key}` must be " in refusal(write(tmp_path, f"{key} = []\n"))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SYMBIONT_VECTOR_BACKEND", "lancedb"),
        ("SYMBIONT_VECTOR_DATA_PATH", "./data/vectors"),
        ("SYMBIONT_VECTOR_HOST", "localhost"),
        ("SYMBIONT_VECTOR_PORT", "6334"),
        ("QDRANT_URL", "http://localhost:6333"),
        ("MCP_SERVER_DISCOVERY", "enabled"),
    ],
)
def test_a_variable_without_a_part_is_refused(variable: str, value: str) -> None:
    """CC4."""
    assert f"{variable}: " in (text := refusal(environ={variable: value}))
    assert "does not exist in this version" in text


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "RUST_LOG"])
def test_a_variable_of_other_programs_is_a_warning_that_keeps_its_value_secret(variable: str) -> None:
    """CC4, CV3."""
    config = Config.load(environ={variable: "s3cret"})
    assert len(config.warnings) == 1
    assert f"`{variable}` is set and has no effect" in config.warnings[0]
    assert "s3cret" not in repr(config)


# The older form of the specification has no part yet, so the rule is shown on a table of the same shape.
FORMS = (
    Setting("context.qdrant.host", Text(), "", default="localhost", variables=("NEW_HOST",)),
    Setting("context.qdrant.port", Number(1, 65_535), "", default=6334, variables=("NEW_PORT",)),
    Setting("context.vector_db_url", Url(), "", variables=("OLD_URL",), older_form=url_places),
)


def test_a_newer_form_wins_over_an_older_one_of_the_same_place_with_a_warning(tmp_path: Path) -> None:
    """CC3."""
    file = write(
        tmp_path, '[context]\nvector_db_url = "http://older:6333"\n[context.qdrant]\nhost = "newer"\n'
    )
    found = resolve(file, {}, {}, FORMS)
    assert found.values["context.qdrant.host"] == "newer"
    assert found.values["context.qdrant.port"] == 6333
    assert found.origins["context.qdrant.port"] == Origin("file", f"{file}:2")
    (warning,) = found.warnings
    assert f"`context.qdrant.host` ({file}:4) wins over its older form `context.vector_db_url`" in warning


def test_an_older_form_of_a_later_place_wins_over_a_newer_one_of_an_earlier(tmp_path: Path) -> None:
    """CC3 ends where CC1 begins."""
    file = write(tmp_path, '[context.qdrant]\nhost = "file"\nport = 1\n')
    found = resolve(file, {"OLD_URL": "http://variable"}, {}, FORMS)
    assert found.values["context.qdrant.host"] == "variable"
    assert found.values["context.qdrant.port"] == 1
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("security.enforce_policies", False),
        ("security.audit_enabled", False),
        ("security.default_sandbox_tier", "degraded"),
    ],
)
def test_production_refuses_what_weakens_it_and_development_does_not(key: str, value: object) -> None:
    """CM1."""
    with pytest.raises(symbi.ConfigError, match=rf"`{key}` must not be `{str(value).lower()}` in production"):
        Config.load(environ={}, overrides={key: value})
    config = Config.load(environ={}, overrides={key: value, **DEVELOPMENT})
    assert config.values[key] == value
    with pytest.raises(symbi.ConfigError, match="in production"):
        config.with_overrides({"runtime.mode": "production"})


def test_an_override_is_the_last_word_and_is_checked() -> None:
    config = Config.load(environ={"SYMBI_LOG_LEVEL": "info"})
    changed = config.with_overrides({"runtime.max_concurrent_agents": 3})
    assert changed.runtime.max_concurrent_agents == 3
    assert changed.log.level == "info"
    assert changed.origins["log.level"] == Origin("environment", "SYMBI_LOG_LEVEL")
    assert config.runtime.max_concurrent_agents == 10_000
    with pytest.raises(symbi.ConfigError, match=r"command line: unknown key `runtime\.modes`: did you mean"):
        config.with_overrides({"runtime.modes": "development"})


def test_paths_in_a_file_stand_on_its_folder_and_others_on_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policies").mkdir()
    file = write(tmp_path, '[policy]\npaths = ["policies"]\n[audit]\nstorage = "trail"\n')
    config = Config.load(file, environ={})
    assert config.policy.paths == (tmp_path / "policies",)
    assert config.audit.storage == tmp_path / "trail"
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert (
        Config.load(file, environ={"SYMBI_AUDIT_STORAGE": "here"}).audit.storage == tmp_path / "work" / "here"
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[runtime\n", "symbi.toml:1: is not TOML"),
        (b"[runtime]\nmode = 'production'\nmode = 'production'\n", "is not TOML"),
        (b"\n[runtime]\nmode = '\xff'\n", "symbi.toml:3: is not UTF-8 text"),
        (b"#" * (FILE_BYTES_MAX + 1), "is larger than 1048576 bytes"),
        (b"a=" + b"[" * 20_000, "is not TOML"),
    ],
)
def test_a_malformed_file_gives_one_line(tmp_path: Path, data: bytes, said: str) -> None:
    file = tmp_path / "symbi.toml"
    file.write_bytes(data)
    assert said in refusal(file)


def test_a_file_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    """CC5: a FIFO would hold us up for ever."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert "is not a regular file" in refusal(fifo)
    assert "is not a regular file" in refusal(tmp_path)
    assert "no such file or directory" in refusal(tmp_path / "absent.toml")
    assert "is not a regular file" in refusal(Path("/dev/zero"))


def test_hostile_keys_do_not_reach_the_terminal(tmp_path: Path) -> None:
    text = refusal(write(tmp_path, '"\\u001b[2Jrun" = 1\n[runtime]\n"' + "x" * 5000 + '" = 1\n'))
    assert "\x1b" not in text
    assert len(text) < 2000


def test_lines_are_found_through_headers_dots_quotes_and_long_texts(tmp_path: Path) -> None:
    """CN1: the place is for the reader; the values are the parser's."""
    file = write(
        tmp_path,
        "\n".join(
            [
                "# [runtime]",
                'runtime.mode = "development"',
                "[ 'security' ] # ours",
                "  enforce_policies = false",
                "[audit]",
                'storage = """\\',
                "   [log]\\",
                '   level = x"""',
                "[log]",
                'level = "debug"',
            ]
        ),
    )
    config = Config.load(file, environ={})
    lines = {key: origin.place.rpartition(":")[2] for key, origin in config.origins.items() if origin.place}
    assert lines == {
        "runtime.mode": "2",
        "security.enforce_policies": "4",
        "audit.storage": "6",
        "log.level": "10",
    }


def test_the_documentation_is_the_table() -> None:
    """CD1 and G1: what is documented is what is read."""
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert tables() in text, "docs/configuration.md differs: paste symbi.config.document.tables() into it"


def test_the_log_level_takes_effect_and_leaves_a_programs_own_handlers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """CG1."""
    import logging

    logger = logging.getLogger("symbi")
    kept, level, spread = list(logger.handlers), logger.level, logger.propagate
    logger.handlers.clear()
    try:
        configure_logging(Config.load(environ={"SYMBI_LOG_LEVEL": "info"}))
        logging.getLogger("symbi.part").info("heard")
        logging.getLogger("symbi.part").debug("not heard")
        configure_logging(Config.load(environ={"SYMBI_LOG_LEVEL": "error"}))
        assert len(logger.handlers) == 1
        logging.getLogger("symbi.part").warning("not heard either")
        assert re.fullmatch(r".* INFO symbi\.part: heard\n", capsys.readouterr().err)
    finally:
        logger.handlers[:], logger.propagate = kept, spread
        logger.setLevel(level)


def test_every_variable_of_ours_that_the_tree_reads_is_documented() -> None:
    """A variable that only the code knows would be refused by `Config.load` as unknown."""
    known = {name for setting in SETTINGS for name in setting.variables} | set(OTHER_VARIABLES)
    read = re.compile(r"(?:environ(?:\.get\(|\[)|getenv\()\s*[\"'](SYMBI(?:ONT)?_[A-Z_]+)")
    shell = re.compile(r"\$\{?(SYMBI(?:ONT)?_[A-Z_]+)")
    files = [*(ROOT / "python").rglob("*.py"), *(ROOT / "python").rglob("*.sh"), *(ROOT / "ci").glob("*")]
    found = {
        name
        for file in files
        if file.is_file()
        for pattern in (read, shell)
        for name in pattern.findall(file.read_text(encoding="utf-8"))
    }
    assert found - known == set()


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ({"supervision.breaker_open_ms": 70_000}, ("breaker_open_max_ms", "70000")),
        ({"runtime.message_backoff_ms": 70_000}, ("message_backoff_max_ms", "60000", "70000")),
        ({"supervision.agent_retries": 500}, ("runtime_retries", "500")),
        ({"supervision.breaker_failures": 33}, ("breaker_failures", "32")),
        ({"supervision.agent_refill_ms": 0}, ("agent_refill_ms", "1")),
    ],
)
def test_breakers_and_budgets_that_cannot_be_are_refused(
    overrides: dict[str, object], names: tuple[str, ...]
) -> None:
    with pytest.raises(symbi.ConfigError) as caught:
        Config.load(environ={}, overrides=overrides)
    assert all(name in str(caught.value) for name in names)
