//! Reading, writing and telling scenarios.

use insta::assert_snapshot;

use super::*;
use crate::builtin;

const HOSTS: &str = "name = \"x\"\n[[host]]\nname = \"cloud\"\nkind = \"cloud\"\n[[host]]\nname = \"daemon\"\nkind = \"daemon\"\n[[host]]\nname = \"client\"\nkind = \"client\"\n";

fn error(more: &str) -> String {
    Scenario::parse("x.toml", &format!("{HOSTS}{more}")).unwrap_err().to_string()
}

#[test]
fn errors_name_file_line_and_what_was_expected() {
    let texts = [
        "[[step]]\nat = \"1s\"\nhost = \"cliant\"\ndo = \"close\"\n",
        "[[step]]\nat = \"1s\"\nhost = \"client\"\ndo = \"jump\"\n",
        "[[step]]\nat = \"soon\"\nhost = \"client\"\ndo = \"close\"\n",
        "[[step]]\nat = \"1s\"\nhost = \"client\"\ndo = { call = { methd = \"add\" } }\n",
        "[[step]]\nat = \"1s\"\nhost = \"client\"\ndo = { call = { method = \"add\" }, close = true }\n",
        "[[step]]\nat = \"1s\"\nhost = \"client\"\ndo = { broadcast = { event = \"x\" } }\n",
        "[[step]]\nhost = \"client\"\ndo = \"close\"\n",
        "[[step]]\nat = \"1s\"\nhost = \"client\"\ndo = \"call\"\n",
        "[[step]]\nat = \"1s\"\ndo = { partition = { hosts = [\"client\", \"nobody\"] } }\n",
        "[[step]]\nat = \"1s\"\ndo = { partition = { hosts = [\"client\"], two_way = true } }\n",
        "[[step]]\nat = \"1s\"\nhost = \"client\"\ntimes = 3\ndo = \"close\"\n",
        "[[fault]]\non = \"relay.frame\"\nprocedure = \"x\"\ndo = \"drop\"\n",
        "[[expect]]\ncall = { name = \"add\", ends = [\"result\"] }\n",
        "[[expect]]\nseen = { event = { kind = \"opend\" } }\n",
        "[[always]]\nnever = { host = \"client\", kindly = \"no\" }\n",
        "[[host]]\nname = \"daemon\"\nkind = \"daemon\"\n",
        "[[host]]\nname = \"relay\"\nkind = \"relay\"\nresumable = true\n",
        "[finish]\nwithout = [\"no-grades\"]\n",
        "hosts = 3\n",
    ];
    let told: Vec<_> = texts.iter().map(|text| error(text)).collect();
    assert_snapshot!("errors", told.join("\n"));
}

#[test]
fn written_and_read_again_a_scenario_is_the_same() {
    for one in builtin::all() {
        let scenario = one.scenario().unwrap();
        let again = Scenario::parse("again.toml", &scenario.to_toml()).unwrap();
        assert_eq!(again, scenario, "{}:\n{}", one.name, scenario.to_toml());
    }
}

#[test]
fn params_keep_the_names_of_their_members() {
    let text = "[[step]]\nat = \"1s\"\nhost = \"client\"\ndo = { call = { method = \"echo\", params = { snake_case = 1, camelCase = { more_of_it = [{ x_y = 2 }] } } } }\n";
    let scenario = Scenario::parse("x.toml", &format!("{HOSTS}{text}")).unwrap();
    let Action::Call(call) = &scenario.steps[0].action else { panic!() };
    let params = call.params.as_ref().unwrap().0.clone();
    assert_eq!(params, serde_json::json!({ "snake_case": 1, "camelCase": { "more_of_it": [{ "x_y": 2 }] } }));
    assert_eq!(Scenario::parse("x.toml", &scenario.to_toml()).unwrap(), scenario);
}

#[test]
fn the_story_of_daemon_blip_resume() {
    assert_snapshot!("story", builtin::find("daemon-blip-resume").unwrap().scenario().unwrap().story());
}

#[test]
fn the_schema_in_the_repository_is_that_of_the_types() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/scenario.schema.json");
    let schema = serde_json::to_string_pretty(&schema::schema()).unwrap() + "\n";
    if std::env::var_os("SIDEBAND_UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &schema).unwrap();
    }
    assert!(std::fs::read_to_string(path).unwrap() == schema, "run this test with SIDEBAND_UPDATE_SCHEMA=1");
}

#[test]
fn the_schema_takes_every_builtin_and_refuses_what_is_none() {
    let schema = jsonschema::validator_for(&schema::schema()).unwrap();
    let json = |text: &str| toml::from_str::<serde_json::Value>(text).unwrap();
    for one in builtin::all() {
        let wrong: Vec<_> = schema.iter_errors(&json(one.text)).map(|error| error.to_string()).collect();
        assert_eq!(wrong, [""; 0], "{}", one.name);
        let written = one.scenario().unwrap().to_toml();
        assert!(schema.is_valid(&json(&written)), "{written}");
    }
    let bare = "[[step]]\nat = \"1s\"\nhost = \"daemon\"\ndo = \"rotate_identity\"\n";
    assert!(schema.is_valid(&json(&format!("{HOSTS}{bare}"))));
    for wrong in [
        "[[step]]\nat = \"1s\"\nhost = \"client\"\ndo = \"jump\"\n",
        "[[step]]\nat = 1\nhost = \"client\"\ndo = \"close\"\n",
        "[[step]]\nat = \"1s\"\nhost = \"client\"\ndo = { call = { methd = \"add\" } }\n",
        "[[host]]\nname = \"x\"\nkind = \"router\"\n",
        "[[expect]]\nseen = { times = 3 }\n",
    ] {
        assert!(!schema.is_valid(&json(&format!("{HOSTS}{wrong}"))), "{wrong}");
    }
}

#[test]
fn names_of_actions_stand_alone_where_they_need_no_value() {
    for name in ["restart", "crash", "rotate_identity", "vanish", "close", "start"] {
        let text = format!("{HOSTS}[[step]]\nat = \"1s\"\nhost = \"daemon\"\ndo = \"{name}\"\n");
        let scenario = Scenario::parse("x.toml", &text).unwrap();
        assert_eq!(Scenario::parse("x.toml", &scenario.to_toml()).unwrap(), scenario, "{name}");
    }
}
