//! The text of statements: where one ends, and how it is written for its server.
//!
//! Parameters are those of SQLite for every engine: `?` has the number after the largest before it, `?7` the number 7.
//! The servers have others, so each statement is translated once for each connection that prepares it.

use super::{
    tokens::{Dialect, Kind, tokens},
    verb::Verb,
};
use crate::error::DataError;

/// The largest number of a parameter, as in SQLite.
const LARGEST: usize = 32_766;

/// The statements of a script, without empty ones. Semicolons in the body of a routine or trigger (from `BEGIN` to its
/// `END`) do not end one.
pub(super) fn statements(dialect: Dialect, script: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut at) = (0, 0);
    let (mut is_create, mut routine, mut depth, mut empty) = (false, None, 0_usize, true);
    let mut before = String::new();
    for (kind, token) in tokens(dialect, script) {
        at += token.len();
        match kind {
            Kind::Space => continue,
            Kind::Semicolon if depth == 0 => {
                if !empty {
                    found.extend(script.get(start..at - token.len()).map(str::trim));
                }
                start = at;
                (is_create, routine, empty) = (false, None, true);
                before.clear();
                continue;
            }
            Kind::Word => {
                let word = token.to_ascii_uppercase();
                is_create |= empty && word == "CREATE";
                if is_create && routine.is_none() {
                    routine = match &*word {
                        "FUNCTION" | "PROCEDURE" | "TRIGGER" | "EVENT" => Some(true),
                        "TABLE" | "VIEW" | "INDEX" | "TYPE" | "SCHEMA" | "RULE" => Some(false),
                        _ => None,
                    };
                }
                if routine == Some(true) {
                    match &*word {
                        // The words of `END CASE` and `END IF` belong to the `END` before.
                        "CASE" if before != "END" => depth += 1,
                        "IF" | "LOOP" | "REPEAT" | "WHILE" if before == "END" => depth += 1,
                        "BEGIN" => depth += 1,
                        "END" => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                }
                before = word;
            }
            _ => before.clear(),
        }
        empty = false;
    }
    if !empty {
        found.extend(script.get(start..).map(str::trim));
    }
    found
}

/// The first words of a statement.
pub(super) fn first_words(sql: &str) -> String {
    let words: Vec<&str> = sql.split_whitespace().take(3).collect();
    words.join(" ").chars().take(60).collect()
}

/// The refusal of more than one statement.
pub(super) const SEVERAL: &str =
    "prepare takes one statement, and this has several; use batch([...]), or exec(sql)";

/// A statement in the words of its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Translated {
    pub(super) sql: String,
    /// Values that have to be bound.
    pub(super) parameters: usize,
    /// For MySQL: the value of each parameter in its order, from 0.
    pub(super) order: Vec<usize>,
    pub(super) verb: Verb,
}

/// Translates one statement, and refuses what must not run by itself on a shared connection.
pub(super) fn translate(dialect: Dialect, sql: &str) -> Result<Translated, DataError> {
    let verb = Verb::of(dialect, sql);
    if let Some(why) = verb.misplaced(dialect) {
        return Err(DataError::Refused(why.into_owned()));
    }
    let mut tokens_of = tokens(dialect, sql);
    if tokens_of.any(|(kind, _)| kind == Kind::Semicolon) && statements(dialect, sql).len() > 1 {
        return Err(DataError::Refused(SEVERAL.to_owned()));
    }
    let mut out = String::with_capacity(sql.len() + 8);
    let (mut parameters, mut order) = (0, Vec::new());
    for (kind, token) in tokens(dialect, sql) {
        match kind {
            Kind::Parameter(number) => {
                let number = number.unwrap_or(parameters + 1);
                if number == 0 || number > LARGEST {
                    return Err(DataError::Invalid(format!(
                        "sql: {token}: parameters have the numbers 1 to {LARGEST}"
                    )));
                }
                parameters = parameters.max(number);
                match dialect {
                    Dialect::Postgres => {
                        out.push('$');
                        out.push_str(&number.to_string());
                    }
                    Dialect::MySql => {
                        out.push('?');
                        order.push(number - 1);
                    }
                    Dialect::Sqlite => out.push_str(token),
                }
            }
            Kind::Question => out.push('?'),
            _ => out.push_str(token),
        }
    }
    Ok(Translated {
        sql: out,
        parameters,
        order,
        verb,
    })
}

/// Refuses a number of bound values that is not the number of parameters.
pub(super) fn check_count(wanted: usize, bound: usize) -> Result<(), DataError> {
    if wanted == bound {
        return Ok(());
    }
    Err(DataError::Invalid(format!(
        "bind: the statement has {wanted} parameters, and {bound} values were bound"
    )))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use Dialect::{MySql, Postgres};

    fn translated(dialect: Dialect, sql: &str) -> (String, usize, Vec<usize>) {
        let found = translate(dialect, sql).unwrap();
        (found.sql, found.parameters, found.order)
    }

    #[test]
    fn parameters_are_numbered_as_in_sqlite() {
        for (sql, want, count) in [
            ("SELECT ?, ?", "SELECT $1, $2", 2),
            ("SELECT ?2, ?1, ?", "SELECT $2, $1, $3", 3),
            ("SELECT ?3", "SELECT $3", 3),
            ("SELECT $2, ?", "SELECT $2, $3", 3),
            (
                "SELECT a ?? 'k' AND b ??| ?",
                "SELECT a ? 'k' AND b ?| $1",
                1,
            ),
            ("SELECT a?", "SELECT a$1", 1),
            ("SELECT 1", "SELECT 1", 0),
        ] {
            assert_eq!(
                translated(Postgres, sql),
                (want.to_owned(), count, vec![]),
                "{sql}"
            );
        }
        for (sql, want, count, order) in [
            ("SELECT ?, ?", "SELECT ?, ?", 2, vec![0, 1]),
            (
                "SELECT ?2, ?1, ?2, ?",
                "SELECT ?, ?, ?, ?",
                3,
                vec![1, 0, 1, 2],
            ),
            ("SELECT a$1, ?", "SELECT a$1, ?", 1, vec![0]),
        ] {
            assert_eq!(
                translated(MySql, sql),
                (want.to_owned(), count, order),
                "{sql}"
            );
        }
    }

    #[test]
    fn question_marks_in_quotes_and_comments_are_no_parameters() {
        for sql in [
            "SELECT 'it''s ?'",
            "SELECT E'\\'?', 'a\\'",
            "SELECT \"a\"\"?\"",
            "SELECT 1 -- ?\n",
            "SELECT 1 /* ? /* ? */ ? */",
            "SELECT $$ ? $a$ $$",
            "SELECT $ü_1$ ? $$ ? $ü_1$",
            "SELECT a$1 FROM t",
            "SELECT 'ü?'",
            "SELECT '?",
            "SELECT /* ?",
            "SELECT $x$ ?",
        ] {
            assert_eq!(
                translated(Postgres, sql),
                (sql.to_owned(), 0, vec![]),
                "{sql}"
            );
        }
        for sql in [
            "SELECT 'it''s ?', 'a\\'?'",
            "SELECT \"?\\\"?\"\"?\"",
            "SELECT `a``?`, `\\`",
            "SELECT 1 -- ?\n",
            "SELECT 1 # ?\n",
            "SELECT 1 /* ? /* ? */",
        ] {
            assert_eq!(translated(MySql, sql), (sql.to_owned(), 0, vec![]), "{sql}");
        }
        assert_eq!(translated(MySql, "SELECT 1--?").1, 1);
        assert_eq!(translated(MySql, "SELECT 1 /*! + ? */").1, 1);
        assert_eq!(translated(MySql, "SELECT $$?$$").1, 1);
    }

    #[test]
    fn a_parameter_has_a_number_in_its_range() {
        for sql in [
            "SELECT ?0",
            "SELECT ?32767",
            "SELECT ?99999999999999999999999",
            "SELECT ?32766, ?",
        ] {
            assert!(
                matches!(translate(Postgres, sql), Err(DataError::Invalid(_))),
                "{sql}"
            );
        }
        assert_eq!(translated(Postgres, "SELECT ?32766").1, 32_766);
    }

    #[test]
    fn a_script_ends_its_statements_at_semicolons_outside_of_quotes_and_bodies() {
        let function = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END";
        let dollar = "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; $$";
        for (script, want) in [
            ("", vec![]),
            (" ; -- nothing;\n;", vec![]),
            ("SELECT 1; SELECT ';' ; ", vec!["SELECT 1", "SELECT ';'"]),
            ("/* a; */ SELECT 1 -- b;", vec!["/* a; */ SELECT 1 -- b;"]),
            (
                &format!("{function}; {dollar}; SELECT 3"),
                vec![function, dollar, "SELECT 3"],
            ),
            (
                "SELECT 1 AS begin; SELECT 2",
                vec!["SELECT 1 AS begin", "SELECT 2"],
            ),
            (
                "CREATE TABLE event (begin int); SELECT 2",
                vec!["CREATE TABLE event (begin int)", "SELECT 2"],
            ),
        ] {
            assert_eq!(statements(Postgres, script), want, "{script}");
        }
        let trigger = "CREATE TRIGGER t AFTER INSERT ON a FOR EACH ROW BEGIN IF NEW.x > 1 THEN SET @a = IF(1, 2, 3); \
            END IF; CASE WHEN 1 THEN SET @b = 1; END CASE; WHILE 0 DO SET @c = 1; END WHILE; END";
        for (script, want) in [
            (
                "SELECT 'a\\';'; SELECT 2",
                vec!["SELECT 'a\\';'", "SELECT 2"],
            ),
            (&format!("{trigger}; SELECT 2;"), vec![trigger, "SELECT 2"]),
            (
                "SELECT `;` # a;\n; SELECT 2",
                vec!["SELECT `;` # a;", "SELECT 2"],
            ),
        ] {
            assert_eq!(statements(MySql, script), want, "{script}");
        }
    }

    #[test]
    fn a_script_of_sqlite_ends_its_statements_outside_of_its_own_quotes() {
        let trigger =
            "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT CASE WHEN 1 THEN 2 END; SELECT 3; END";
        for (script, want) in [
            ("SELECT 'a\\'; SELECT 2", vec!["SELECT 'a\\'", "SELECT 2"]),
            (
                "SELECT [;], `;`, \";\" -- ;\n; /* ; */ SELECT 2",
                vec!["SELECT [;], `;`, \";\" -- ;", "/* ; */ SELECT 2"],
            ),
            (&format!("{trigger}; SELECT 4;"), vec![trigger, "SELECT 4"]),
            ("SELECT '", vec!["SELECT '"]),
            ("SELECT [", vec!["SELECT ["]),
        ] {
            assert_eq!(statements(Dialect::Sqlite, script), want, "{script}");
        }
    }

    #[test]
    fn one_statement_may_end_with_a_semicolon_and_no_other_may_follow() {
        for sql in ["SELECT 1;", "SELECT 1; -- done", "SELECT 1;;"] {
            assert!(translate(Postgres, sql).is_ok(), "{sql}");
        }
        for sql in [
            "SELECT 1; SELECT 2",
            "SELECT 1; DROP TABLE t",
            "CREATE TABLE t (a int); SELECT 1",
        ] {
            assert!(
                matches!(translate(Postgres, sql), Err(DataError::Refused(_))),
                "{sql}"
            );
        }
    }

    #[test]
    fn statements_that_others_would_notice_are_refused() {
        for sql in [
            "BEGIN",
            "/* */ commit",
            "-- a\nROLLBACK",
            "SET a = 1",
            "COPY t FROM STDIN",
            "LISTEN a",
        ] {
            assert!(
                matches!(translate(Postgres, sql), Err(DataError::Refused(_))),
                "{sql}"
            );
        }
        for sql in [
            "START TRANSACTION",
            "USE other",
            "SET @a = 1",
            "LOCK TABLES t READ",
            "LOAD DATA INFILE 'a'",
        ] {
            assert!(
                matches!(translate(MySql, sql), Err(DataError::Refused(_))),
                "{sql}"
            );
        }
    }
}
