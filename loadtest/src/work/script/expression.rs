//! The expressions of `\set`: whole numbers with the four operations, and `random`.

use std::collections::BTreeMap;

use crate::work::Choices;

/// How deep brackets may be.
const DEEPEST: usize = 64;

/// An expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    Number(i64),
    Variable(String),
    Random(Box<Expression>, Box<Expression>),
    Operation(char, Box<Expression>, Box<Expression>),
}

impl Expression {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader { rest: text, depth: 0 };
        let expression = reader.sum()?;
        match reader.peek() {
            None => Ok(expression),
            Some(other) => Err(format!("`{other}` was not expected in an expression")),
        }
    }

    /// Its value. Arithmetic wraps, and nothing divided by 0 is 0: what pgbench would stop at.
    pub(super) fn value(&self, values: &BTreeMap<&str, i64>, choices: &mut Choices) -> i64 {
        match self {
            Self::Number(number) => *number,
            Self::Variable(name) => values.get(name.as_str()).copied().unwrap_or_default(),
            Self::Random(low, high) => {
                let (low, high) = (low.value(values, choices), high.value(values, choices));
                choices.between(low.min(high), low.max(high))
            }
            Self::Operation(sign, left, right) => {
                let (left, right) = (left.value(values, choices), right.value(values, choices));
                match sign {
                    '+' => left.wrapping_add(right),
                    '-' => left.wrapping_sub(right),
                    '*' => left.wrapping_mul(right),
                    '/' => left.checked_div(right).unwrap_or_default(),
                    _ => left.checked_rem(right).unwrap_or_default(),
                }
            }
        }
    }

    pub(super) fn variables(&self) -> Vec<&str> {
        match self {
            Self::Number(_) => Vec::new(),
            Self::Variable(name) => vec![name],
            Self::Random(left, right) | Self::Operation(_, left, right) => {
                let mut all = left.variables();
                all.extend(right.variables());
                all
            }
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.rest = self.rest.get(wanted.len_utf8()..).unwrap_or_default();
        }
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.take(wanted) { Ok(()) } else { Err(format!("expected `{wanted}` in an expression")) }
    }

    fn sum(&mut self) -> Result<Expression, String> {
        let mut left = self.product()?;
        while let Some(sign) = self.peek().filter(|sign| "+-".contains(*sign)) {
            self.take(sign);
            left = Expression::Operation(sign, Box::new(left), Box::new(self.product()?));
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Expression, String> {
        let mut left = self.atom()?;
        while let Some(sign) = self.peek().filter(|sign| "*/%".contains(*sign)) {
            self.take(sign);
            left = Expression::Operation(sign, Box::new(left), Box::new(self.atom()?));
        }
        Ok(left)
    }

    fn atom(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(format!("an expression is nested more than {DEEPEST} deep"));
        }
        let atom = self.shallow_atom();
        self.depth -= 1;
        atom
    }

    fn shallow_atom(&mut self) -> Result<Expression, String> {
        if self.take('-') {
            let positive = self.atom()?;
            return Ok(Expression::Operation('-', Box::new(Expression::Number(0)), Box::new(positive)));
        }
        if self.take('(') {
            let inner = self.sum()?;
            self.expect(')')?;
            return Ok(inner);
        }
        if self.take(':') {
            return match self.word().as_str() {
                "" => Err("expected a name after `:`".to_owned()),
                name => Ok(Expression::Variable(name.to_owned())),
            };
        }
        match self.word().as_str() {
            "" => Err("expected a whole number, :name, random(low, high) or brackets in an expression".to_owned()),
            "random" => {
                self.expect('(')?;
                let low = self.sum()?;
                self.expect(',')?;
                let high = self.sum()?;
                self.expect(')')?;
                Ok(Expression::Random(Box::new(low), Box::new(high)))
            }
            word => {
                word.parse().map(Expression::Number).map_err(|_| format!("{word} is not supported in an expression"))
            }
        }
    }

    fn word(&mut self) -> String {
        self.rest = self.rest.trim_start();
        let length = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        word.to_owned()
    }
}
