//! The platform's API as customers use it: what is theirs, what is not, and what is
//! said of both.

mod common;

use std::collections::BTreeMap;

use common::platform::{
    Answer, CONSUMER, Customer, KRATOS, OTHER_CONSUMER, OTHER_STORAGE, Platform, STORAGE, ZEUS,
};
use serde_json::{Value, json};

/// Both forms of a place.
fn both(place: &str) -> [String; 2] {
    [place.to_owned(), format!("{place}/")]
}

#[test]
fn a_distro_from_its_making_to_its_end() {
    let mut platform = Platform::new();
    platform.start();
    let ask = |method: &str, path: &str, body: Value| {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        platform.ask(&KRATOS, method, path, &body)
    };
    for place in both("/api/custom_distros") {
        assert_eq!(ask("GET", &place, Value::Null).ok(), json!([]));
    }
    let id = platform.distro(&KRATOS, STORAGE, "mine");
    for place in both(&format!("/api/custom_distros/{CONSUMER}")) {
        let usable = ask("GET", &place, Value::Null).ok();
        assert_eq!(usable, json!([{"id": id, "name": "mine"}]));
    }
    // Not in the container that stores it.
    let place = format!("/api/custom_distros/{STORAGE}");
    assert_eq!(ask("GET", &place, Value::Null).ok(), json!([]));
    let all = ask("GET", "/api/custom_distros/", Value::Null).ok();
    assert_eq!(
        all,
        json!([{"id": id, "name": "mine", "container": STORAGE}])
    );
    let place = format!("/api/custom_distro/{id}");
    let shown = ask("GET", &place, Value::Null).ok();
    let expected = json!({
        "id": id, "container": STORAGE, "name": "mine", "path": "mine", "note": "",
        "uuid": shown["uuid"],
    });
    assert_eq!(shown, expected);
    assert_eq!(shown["uuid"].as_str().map(str::len), Some(36));
    // Some of it, and all of it.
    let changed = ask(
        "POST",
        &place,
        json!({"note": "a 'note'\n\"of\" \u{1f427}"}),
    )
    .ok();
    assert_eq!(changed["note"], "a 'note'\n\"of\" \u{1f427}");
    assert_eq!(
        (&changed["name"], &changed["path"]),
        (&json!("mine"), &json!("mine"))
    );
    let new = json!({"name": "n", "path": "p", "note": ""});
    let changed = ask("POST", &place, new.clone()).ok();
    assert_eq!(ask("GET", &place, Value::Null).ok(), changed);
    assert_eq!(changed["path"], "p");
    ask("POST", &place, json!({})).forbidden();
    // A container takes it, by its number or that as a text, and gives it back.
    let container = format!("/api/containers/{CONSUMER}");
    for given in [json!(id), json!(id.to_string())] {
        let done = ask("POST", &container, json!({"custom_distro": given})).ok();
        assert_eq!(done, json!({"message": "Ok"}));
        let shown = ask("GET", &container, Value::Null).ok();
        assert_eq!(shown["custom_distro"], id);
        assert_eq!(shown["custom_distro_name"], "n");
        ask("POST", &container, json!({"custom_distro": null})).ok();
        let shown = ask("GET", &container, Value::Null).ok();
        assert_eq!(shown["custom_distro"], Value::Null);
        assert!(shown.get("custom_distro_name").is_none(), "{shown}");
    }
    // Who uses it goes back to the default when it is deleted, and nothing else goes.
    ask("POST", &container, json!({"custom_distro": id})).ok();
    assert_eq!(
        ask("DELETE", &place, Value::Null).ok(),
        json!({"message": "Ok"})
    );
    ask("DELETE", &place, Value::Null).forbidden();
    let shown = ask("GET", &container, Value::Null).ok();
    assert_eq!(
        (&shown["custom_distro"], &shown["distro_name"]),
        (&Value::Null, &json!("precise"))
    );
    let storage = ask("GET", &format!("/api/containers/{STORAGE}"), Value::Null).ok();
    assert_eq!(storage["custom_distros_storage"], true);
}

#[test]
fn what_cannot_be_is_forbidden() {
    let mut platform = Platform::new();
    platform.start();
    let mine = platform.distro(&KRATOS, STORAGE, "mine");
    let other = platform.distro(&KRATOS, STORAGE, "other");
    let theirs = platform.distro(&ZEUS, OTHER_STORAGE, "theirs");
    let ask = |method: &str, path: &str, body: Value| {
        platform.ask(&KRATOS, method, path, &body.to_string())
    };
    let create = format!("/api/custom_distros/{STORAGE}");
    let long = "x".repeat(256);
    for (name, path) in [
        ("", "a"),
        (&long, "a"),
        ("a\0b", "a"),
        ("mine", "a"),
        ("a", "mine"),
        ("a", ""),
        ("a", "."),
        ("a", ".."),
        ("a", "a/b"),
        ("a", "/a"),
        ("a", "a b"),
        ("a", "a\n"),
        ("a", "\u{e9}"),
        ("a", &long),
    ] {
        let answer = ask("POST", &create, json!({"name": name, "path": path}));
        assert_eq!(answer.status, 403, "{name:?} {path:?}");
        let place = format!("/api/custom_distro/{other}");
        let change = match name {
            "a" => json!({"path": path}),
            _ => json!({"name": name}),
        };
        ask("POST", &place, change).forbidden();
    }
    for wrong in [
        json!({"name": "a"}),
        json!({"path": "a"}),
        json!({"name": 7, "path": "a"}),
    ] {
        ask("POST", &create, wrong).forbidden();
    }
    // Only where distros are stored.
    let consumer = format!("/api/custom_distros/{CONSUMER}");
    ask("POST", &consumer, json!({"name": "a", "path": "a"})).forbidden();
    // Nobody's, somebody else's, and none at all.
    let container = format!("/api/containers/{CONSUMER}");
    for wrong in [
        json!(theirs),
        json!(mine + 1000),
        json!("x"),
        json!(""),
        json!(-1),
        json!(1.5),
    ] {
        ask("POST", &container, json!({"custom_distro": wrong})).forbidden();
    }
    ask(
        "POST",
        &format!("/api/containers/{STORAGE}"),
        json!({"custom_distro": mine}),
    )
    .forbidden();
    ask("POST", &container, json!({})).forbidden();
    ask("POST", &container, json!({"distro": 1000})).forbidden();
    // A change is done as a whole, or not at all.
    let change = json!({"name": "changed", "custom_distro": theirs});
    ask("POST", &container, change).forbidden();
    assert_eq!(ask("GET", &container, json!(null)).ok()["name"], "web");
    // A storage container that stores no more: its distros cannot be chosen.
    let storage = format!("/api/containers/{STORAGE}");
    ask("POST", &storage, json!({"custom_distros_storage": false})).ok();
    ask("POST", &container, json!({"custom_distro": mine})).forbidden();
    assert_eq!(ask("GET", &consumer, json!(null)).ok(), json!([]));
    ask("POST", &storage, json!({"custom_distros_storage": true})).ok();
    ask("POST", &container, json!({"custom_distro": mine})).ok();
}

#[test]
fn names_and_notes_are_any_text() {
    let mut platform = Platform::new();
    platform.start();
    let name = "\u{1f427}".repeat(255);
    let note = "'; DROP TABLE containers; -- \"\\\n\t\u{0}".replace('\u{0}', "\u{1}");
    let create = format!("/api/custom_distros/{STORAGE}");
    for (number, name) in [&*name, "'", "\"", "a\nb", "<b>", "%s%n", "\u{202e}x"]
        .iter()
        .enumerate()
    {
        let new = json!({"name": name, "path": format!("p{number}"), "note": note});
        platform
            .ask(&KRATOS, "POST", &create, &new.to_string())
            .with(201);
    }
    let all = platform.ask(&KRATOS, "GET", "/api/custom_distros", "").ok();
    assert_eq!(all[0]["name"], name);
    assert_eq!(all.as_array().map(Vec::len), Some(7));
    let place = format!("/api/custom_distro/{}", all[3]["id"]);
    let shown = platform.ask(&KRATOS, "GET", &place, "").ok();
    assert_eq!(
        (&shown["name"], &shown["note"]),
        (&json!("a\nb"), &json!(note))
    );
}

/// Headers without those that differ from one answer to the next.
fn without_date(answer: &Answer) -> (u16, String, String, String) {
    let head = answer
        .head
        .lines()
        .filter(|line| !line.starts_with("date:"));
    let head = head.collect::<Vec<_>>().join("\n");
    (
        answer.status,
        answer.reason.clone(),
        head,
        answer.body.clone(),
    )
}

/// Who is not the owner cannot even learn what there is.
#[test]
fn what_is_not_yours_is_as_if_it_were_not_there() {
    let mut platform = Platform::new();
    platform.start();
    let distro = platform.distro(&ZEUS, OTHER_STORAGE, "theirs");
    let raise = format!("/api/alarms/raise/{OTHER_CONSUMER}");
    platform.ask(&ZEUS, "POST", &raise, "mine").with(201);
    let alarm = platform.ask(&ZEUS, "GET", "/api/alarms", "").ok()[0]["id"].clone();
    let key = platform
        .ask(
            &ZEUS,
            "GET",
            &format!("/api/alarm_key/{OTHER_CONSUMER}"),
            "",
        )
        .ok();
    let numbers = BTreeMap::from([
        ("{uid}", [OTHER_STORAGE.to_string(), 39_999.to_string()]),
        ("{id}", [distro.to_string(), (distro + 1000).to_string()]),
        ("{alarm}", [alarm.to_string(), 100_000.to_string()]),
    ]);
    let bodies = [
        "",
        "{}",
        "{",
        "[]",
        r#"{"name": "a", "path": "a"}"#,
        r#"{"name": "a"}"#,
        r#"{"custom_distro": null}"#,
        r#"{"custom_distros_storage": false}"#,
        r#"{"version": "previous"}"#,
        r#"{"reboot": 1}"#,
    ];
    let mut probes = 0;
    for (place, number) in [
        ("/api/custom_distros/{uid}", "{uid}"),
        ("/api/containers/{uid}", "{uid}"),
        ("/api/alarm_key/{uid}", "{uid}"),
        ("/api/alarms/raise/{uid}", "{uid}"),
        ("/api/custom_distro/{id}", "{id}"),
        ("/api/custom_distro/{id}/image", "{id}"),
        ("/api/custom_distro/{id}/check", "{id}"),
        ("/api/custom_distro/{id}/versions", "{id}"),
        ("/api/alarms/{alarm}", "{alarm}"),
    ] {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"] {
            for body in bodies {
                for slash in ["", "/"] {
                    let of = |which: usize| {
                        let path = place.replace(number, &numbers[number][which]);
                        platform.ask(&KRATOS, method, &format!("{path}{slash}"), body)
                    };
                    let (theirs, nobodys) = (of(0), of(1));
                    assert_eq!(
                        without_date(&theirs),
                        without_date(&nobodys),
                        "{method} {place}{slash} {body}"
                    );
                    let is_told = theirs.status < 300 && method != "OPTIONS";
                    assert!(!is_told, "{method} {place} {body}: {theirs:?}");
                    probes += 1;
                }
            }
        }
    }
    assert!(probes > 1000);
    // A container that exists, as something else's part.
    let mine = platform.distro(&KRATOS, STORAGE, "mine");
    let update = |custom: i64| {
        let body = json!({"custom_distro": custom}).to_string();
        platform.ask(
            &KRATOS,
            "POST",
            &format!("/api/containers/{CONSUMER}"),
            &body,
        )
    };
    assert_eq!(
        without_date(&update(distro)),
        without_date(&update(distro + 1000))
    );
    // The other customer's key raises nothing elsewhere.
    let key = key["alarm_key"].as_str().expect("a key");
    for uid in [CONSUMER, 39_999] {
        let path = format!("/api/alarms/raise/{uid}?key={key}");
        platform.send("POST", &path, "", b"x").forbidden();
    }
    // Nothing was changed by all that.
    let theirs = platform.ask(&ZEUS, "GET", "/api/custom_distros", "").ok();
    assert_eq!(theirs.as_array().map(Vec::len), Some(1));
    platform
        .ask(&ZEUS, "GET", &format!("/api/alarms/{alarm}"), "")
        .ok();
    platform
        .ask(&KRATOS, "GET", &format!("/api/custom_distro/{mine}"), "")
        .ok();
}

#[test]
fn who_asks_is_known_by_either_way() {
    let mut platform = Platform::new();
    platform.start();
    let hex = |text: &str| text.bytes().map(|b| format!("{b:02x}")).collect::<String>();
    let headers = |name: &str, password: &str| {
        format!(
            "X-uwsgi-it-username: {}\r\nX-uwsgi-it-password: {}\r\n",
            hex(name),
            hex(password)
        )
    };
    let me = platform.send(
        "GET",
        "/api/me",
        &headers(KRATOS.name, KRATOS.password),
        b"",
    );
    let expected = json!({
        "email": "k@example.com", "vat": "1", "company": "Sparta", "uuid": me.json()["uuid"],
        "containers": [STORAGE, CONSUMER], "servers": ["192.0.2.1"],
    });
    assert_eq!(me.ok(), expected);
    let wrong = Customer {
        password: "something else",
        ..KRATOS
    };
    let nobody = Customer {
        name: "nobody",
        ..KRATOS
    };
    let refused = platform.ask(&wrong, "GET", "/api/me", "");
    assert_eq!(refused.with(401), json!({"error": "Unauthorized"}));
    assert_eq!(refused.reason, "UNAUTHORIZED");
    let realm = "www-authenticate: basic realm=\"uwsgi.it api\"";
    assert!(refused.head.contains(realm), "{}", refused.head);
    for other in [
        platform.ask(&nobody, "GET", "/api/me", ""),
        platform.send("GET", "/api/me", "", b""),
        platform.send("GET", "/api/containers/1", "", b""),
        platform.send("GET", "/api/me", &headers(KRATOS.name, "x"), b""),
        platform.send("GET", "/api/me", "Authorization: Bearer x\r\n", b""),
    ] {
        assert_eq!(without_date(&other), without_date(&refused));
    }
    // Browsers ask first, without a name.
    for place in ["/api/me", "/api/custom_distro/1/", "/api/nothing"] {
        let answer = platform.send("OPTIONS", place, "", b"");
        assert_eq!((answer.status, &*answer.body), (200, ""), "{place}");
        for header in ["origin: *", "methods: get", "headers: authorization"] {
            let header = format!("access-control-allow-{header}");
            assert!(answer.head.contains(&header), "{}", answer.head);
        }
    }
    for answer in [
        platform.ask(&KRATOS, "GET", "/api/nothing", ""),
        platform.ask(&KRATOS, "PATCH", "/api/me", ""),
        platform.ask(&KRATOS, "GET", "/api/me", ""),
        refused,
    ] {
        assert!(
            answer.head.contains("access-control-allow-origin: *"),
            "{answer:?}"
        );
        assert!(
            answer.head.contains("content-type: application/json"),
            "{answer:?}"
        );
    }
    // Who guesses is stopped; who is known is not.
    let status = |by: &Customer| platform.ask(by, "GET", "/api/me", "").status;
    let guesses: Vec<_> = (0..60).map(|_| status(&wrong)).collect();
    assert_eq!((guesses[0], guesses[59]), (401, 429));
    assert_eq!(status(&KRATOS), 200);
    // A password that is changed is another one at once.
    let mut set = common::program::distrofs(["admin", "customer", "set", KRATOS.name]);
    set.args(["--password-stdin", "--set"]);
    set.arg(format!("registry={}", platform.registry().display()));
    set.args([
        "--set",
        &format!("run={}", platform.service.run_dir().display()),
    ]);
    common::program::run_with_input(&mut set, b"quite another one\n").ok();
    assert_ne!(status(&KRATOS), 200);
}

#[test]
fn bodies_are_bounded_and_may_be_of_no_type() {
    let mut platform = Platform::new();
    platform.start();
    let create = format!("/api/custom_distros/{STORAGE}");
    let ask = |body: &str| platform.ask(&KRATOS, "POST", &create, body);
    for bad in ["", "{", "x", "{\"name\": \"a\"", "\u{0}", "[]", "7", "null"] {
        let answer = ask(bad);
        assert_eq!(answer.status, 400, "{bad:?}: {answer:?}");
        assert!(answer.json()["error"].is_string());
    }
    let padded = |bytes: usize| {
        let body = json!({"name": "a", "path": "a", "more": ""}).to_string();
        let more = "x".repeat(bytes - body.len());
        json!({"name": "a", "path": "a", "more": more}).to_string()
    };
    let too_long = json!({"error": "Request entity too large"});
    assert_eq!(ask(&padded(65_537)).with(413), too_long);
    assert_eq!(
        ask(&padded(65_536)).with(201),
        json!({"message": "Created"})
    );
    // Of no known length.
    let basic = "Authorization: Basic a3JhdG9zOmRlaW1vcyBvZiBzcGFydGE=\r\n";
    let head =
        format!("POST {create} HTTP/1.1\r\nHost: x\r\n{basic}Transfer-Encoding: chunked\r\n\r\n");
    let piece = format!("1000\r\n{}\r\n", "x".repeat(4096));
    let chunked = format!("{head}{}0\r\n\r\n", piece.repeat(17));
    assert_eq!(
        platform.raw(chunked.as_bytes()).expect("ask").with(413),
        too_long
    );
    let small = json!({"name": "b", "path": "b"}).to_string();
    let chunked = format!("{head}{:x}\r\n{small}\r\n0\r\n\r\n", small.len());
    platform.raw(chunked.as_bytes()).expect("ask").with(201);
}

#[test]
fn alarms_are_kept_found_and_forgotten() {
    let mut platform = Platform::new();
    platform.start();
    let ask = |method: &str, path: &str, body: &str| platform.ask(&KRATOS, method, path, body);
    let raise = |query: &str, message: &str| {
        ask(
            "POST",
            &format!("/api/alarms/raise/{CONSUMER}{query}"),
            message,
        )
    };
    raise(
        "?level=3&class=a&color=%23ff0000&vassal=v&filename=f&func=g&line=7&unix=99",
        "first",
    )
    .with(201);
    for number in 0..101 {
        raise("", &number.to_string()).with(201);
    }
    let all = ask("GET", "/api/alarms/", "").ok();
    let all = all.as_array().expect("a list");
    assert_eq!(all.len(), 100);
    assert_eq!(
        (&all[0]["msg"], &all[99]["msg"]),
        (&json!("100"), &json!("1"))
    );
    raise("?level=2&class=x%20y&line=8", "last").with(201);
    let found = ask("GET", "/api/alarms?class=x+y&level=2&line=8", "").ok();
    let expected = json!([{
        "id": found[0]["id"], "container": CONSUMER, "level": 2, "color": "#ffffff",
        "class": "x y", "vassal": "", "line": 8, "filename": "", "func": "",
        "unix": found[0]["unix"], "msg": "last",
    }]);
    assert_eq!(found, expected);
    for (query, count) in [
        (format!("container={CONSUMER}"), 100),
        (format!("container={STORAGE}"), 0),
        ("level=1".to_owned(), 99),
        ("class=no".to_owned(), 0),
        ("range=5".to_owned(), 5),
        ("range=98-200".to_owned(), 2),
        ("range=200-300".to_owned(), 0),
    ] {
        let found = ask("GET", &format!("/api/alarms/?{query}"), "").ok();
        assert_eq!(found.as_array().map(Vec::len), Some(count), "{query}");
        let total = ask("GET", &format!("/api/alarms/?{query}&with_total"), "").ok();
        assert_eq!(total["alarms"], found, "{query}");
        assert!(total["total"].as_u64() >= Some(count as u64), "{total}");
    }
    let total = ask("GET", "/api/alarms?with_total=1&range=1&level=1", "").ok();
    assert_eq!(total["total"], 99);
    for range in ["", "x", "0", "5-5", "5-4", "-1"] {
        let answer = ask("GET", &format!("/api/alarms?range={range}"), "");
        assert_eq!(answer.status, 416, "{range}");
    }
    assert_eq!(ask("GET", "/api/alarms?level=x", "").status, 400);
    raise("?level=0", "x").forbidden();
    raise("?level=-1", "x").forbidden();
    let id = found[0]["id"].clone();
    let place = format!("/api/alarms/{id}");
    assert_eq!(ask("GET", &place, "").ok(), found[0]);
    assert_eq!(ask("DELETE", &place, "").ok(), json!({"message": "Ok"}));
    ask("GET", &place, "").forbidden();
    // By a key, which the next one makes worthless.
    let key = || ask("GET", &format!("/api/alarm_key/{CONSUMER}"), "").ok();
    let (first, second) = (key(), key());
    assert_eq!(first["alarm_key"].as_str().map(str::len), Some(36));
    let by = |key: &Value| {
        let key = key["alarm_key"].as_str().expect("a key");
        let path = format!("/api/alarms/raise/{CONSUMER}/?key={key}");
        platform.send("POST", &path, "", b"by key")
    };
    by(&first).forbidden();
    by(&second).with(201);
    // Anything is a message.
    let path = format!("/api/alarms/trigger/{CONSUMER}");
    ask("POST", &path, "\"quoted\"\n\u{1f427}").with(201);
    assert_eq!(
        ask("GET", "/api/alarms?range=1", "").ok()[0]["msg"],
        "\"quoted\"\n\u{1f427}"
    );
}
