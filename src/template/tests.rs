//! Templates as users of Docker write them, with what Go makes of them.

use super::{METHOD, Template, Values};
use serde_json::{Value, json};

fn document() -> Value {
    json!({
        "Id": "abc",
        "Name": "/web",
        "State": {"Running": true, "ExitCode": 0, "Pid": 42, "Status": "running"},
        "Config": {"Labels": {"a.b": "c", "d": "e"}, "Env": ["A=1", "B=2"], "Entrypoint": null, "Cmd": ["sh", "-c"]},
        "HostConfig": {"NanoCpus": 0, "Binds": null, "Ratio": 1.5},
        "NetworkSettings": {
            "Networks": {"b": {"IPAddress": "10.0.0.2"}, "a": {"IPAddress": "10.0.0.1"}},
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "81/tcp": null}
        },
        "Empty": "", "Zero": 0, "List": [1, 2, 3],
    })
}

fn filled(template: &str, value: &Value) -> String {
    match template.parse::<Template>() {
        Ok(parsed) => match parsed.fill(value, Values::Plain) {
            Ok(text) => text,
            Err(failure) => format!("failed: {failure}"),
        },
        Err(error) => format!("refused: {error}"),
    }
}

#[rustfmt::skip]
const FILLED: &[(&str, &str)] = &[
        ("{{.Id}}", "abc"),
        ("{{ .Id }} {{.Name}}", "abc /web"),
        ("plain", "plain"),
        ("{{.State.Running}}", "true"),
        ("{{.State.ExitCode}}", "0"),
        (
            "{{json .State}}",
            r#"{"Running":true,"ExitCode":0,"Pid":42,"Status":"running"}"#,
        ),
        ("{{json .Config.Env}}", r#"["A=1","B=2"]"#),
        ("{{.Config.Env}}", "[A=1 B=2]"),
        ("{{.Config.Labels}}", "map[a.b:c d:e]"),
        ("{{.Config.Entrypoint}}", "[]"),
        ("{{json .Config.Entrypoint}}", "null"),
        ("{{index .Config.Labels \"a.b\"}}", "c"),
        ("{{index .Config.Labels \"no\"}}", ""),
        ("{{.Config.Labels.d}}", "e"),
        ("{{.Config.Labels.no}}", "<no value>"),
        ("{{index .Config.Env 1}}", "B=2"),
        ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
        (
            "{{range $i, $e := .Config.Env}}{{$i}}={{$e}};{{end}}",
            "0=A=1;1=B=2;",
        ),
        (
            "{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{$v.IPAddress}} {{end}}",
            "a 10.0.0.1 b 10.0.0.2 ",
        ),
        (
            "{{range .NetworkSettings.Networks}}{{.IPAddress}},{{end}}",
            "10.0.0.1,10.0.0.2,",
        ),
        (
            "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}",
            "8080",
        ),
        (
            "{{range $p, $c := .NetworkSettings.Ports}}{{$p}}->{{if $c}}{{(index $c 0).HostPort}}{{else}}-{{end}} {{end}}",
            "80/tcp->8080 81/tcp->- ",
        ),
        ("{{range .HostConfig.Binds}}x{{else}}none{{end}}", "none"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if not .State.Running}}down{{end}}", ""),
        (
            "{{if eq .State.Status \"exited\"}}a{{else if eq .State.Status \"running\"}}b{{else}}c{{end}}",
            "b",
        ),
        (
            "{{if and .State.Running (eq .State.ExitCode 0)}}ok{{end}}",
            "ok",
        ),
        ("{{or .Empty \"default\"}}", "default"),
        ("{{and .Empty .Nope}}", ""),
        ("{{with .Empty}}{{.}}{{else}}nothing{{end}}", "nothing"),
        ("{{with .State}}{{.Pid}} {{$.Name}}{{end}}", "42 /web"),
        ("{{$x := .State.Pid}}{{$x}}", "42"),
        ("{{$x := 1}}{{range .List}}{{$x = .}}{{end}}{{$x}}", "3"),
        (
            "{{range .List}}{{if eq . 2}}{{break}}{{end}}{{.}}{{end}}",
            "1",
        ),
        (
            "{{range .List}}{{if eq . 2}}{{continue}}{{end}}{{.}}{{end}}",
            "13",
        ),
        ("{{join .Config.Cmd \" \"}}", "sh -c"),
        ("{{.Config.Cmd | len}}", "2"),
        (
            "{{upper .Name}} {{lower \"ABC\"}} {{title \"a b\"}}",
            "/WEB abc A B",
        ),
        ("{{split .Name \"/\"}}", "[ web]"),
        ("{{slice .Name 1}}", "web"),
        ("{{slice .Id 0 2}}", "ab"),
        ("{{.Name | printf \"%q\"}}", "\"/web\""),
        (
            "{{printf \"%-6s|%5d|%05d|%.2f|%t|%x|%v|%%\" .Id 42 42 1.5 true 255 .List}}",
            "abc   |   42|00042|1.50|true|ff|[1 2 3]|%",
        ),
        ("{{printf \"%s %s\" .Id}}", "abc %!s(MISSING)"),
        ("{{print 1 2 \"a\" 3}}", "1 2a3"),
        (
            "{{len .Config.Env}} {{len .HostConfig.Binds}} {{len .Id}}",
            "2 0 3",
        ),
        ("{{.HostConfig.Ratio}}", "1.5"),
        ("a {{- .Id -}} b", "aabcb"),
        ("a\n{{- /* a comment */ -}}\nb", "ab"),
        ("{{/* only */}}", ""),
        (
            "{{eq .Id \"x\" \"abc\"}} {{ne .Id \"x\"}} {{lt 1 2}} {{ge 1 2}}",
            "true true true false",
        ),
        ("{{`raw \\n`}}{{\"tab\\t\"}}", "raw \\ntab\t"),
        ("{{pad .Id 1 2}}|{{truncate .Id 2}}", " abc  |ab"),
        ("{{println}}{{println \"a\" 1}}", "\na 1\n"),
        (
            "{{range $i, $e := .List}}{{if $i}}, {{end}}{{$e}}{{end}}",
            "1, 2, 3",
        ),
        ("{{json .Name | printf \"%s\"}}", "\"/web\""),
];

#[test]
fn templates_give_what_go_gives() {
    for (template, expected) in FILLED {
        assert_eq!(filled(template, &document()), *expected, "{template}");
    }
}

#[test]
fn what_is_wrong_is_told() {
    for (template, expected) in [
        ("{{", "refused: template: :1: unclosed action"),
        ("{{.Id", "refused: template: :1: unclosed action"),
        (
            "{{nope .Id}}",
            "refused: template: :1: function \"nope\" not defined",
        ),
        ("{{if .Id}}", "refused: template: :1: unexpected EOF"),
        ("{{end}}", "refused: template: :1: unexpected {{end}}"),
        ("{{else}}", "refused: template: :1: unexpected {{else}}"),
        ("{{$x}}", "refused: template: :1: undefined variable \"$x\""),
        ("{{}}", "refused: template: :1: missing value for command"),
        (
            "{{break}}",
            "refused: template: :1: {{break}} outside {{range}}",
        ),
        (
            "{{.Nope}}",
            "failed: template: :1: executing \"\": at <.Nope>: map has no entry for key \"Nope\"",
        ),
        (
            "{{.Id.Nope}}",
            "failed: template: :1: executing \"\": at <.Nope>: can't evaluate field Nope in type string",
        ),
        (
            "{{index .List 9}}",
            "failed: template: :1: executing \"\": error calling index: index out of range: 9",
        ),
        (
            "{{eq .Id 1}}",
            "failed: template: :1: executing \"\": incompatible types for comparison",
        ),
        (
            "{{range .Id}}{{end}}",
            "failed: template: :1: executing \"\": range can't iterate over abc",
        ),
    ] {
        assert_eq!(filled(template, &document()), expected, "{template}");
    }
}

#[test]
fn methods_are_called_and_are_no_part_of_the_value() {
    let row = json!({"ID": "1", format!("{METHOD}Label"): {"a.b": "c"}});
    assert_eq!(
        filled("{{.ID}} {{.Label \"a.b\"}}{{.Label \"x\"}}", &row),
        "1 c"
    );
    assert_eq!(filled("{{json .}}", &row), "{\"ID\":\"1\"}");
}
