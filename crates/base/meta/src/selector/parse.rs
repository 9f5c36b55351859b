//! The label selector of a query string: `app=web,tier in (a, b),!legacy`.

use super::SelectorError;
use super::label::{LabelSelector, Operator, Requirement};
use super::lexer::{Token, tokens};
use crate::names;

struct Parser<'a> {
    tokens: Vec<(Token, &'a str)>,
    at: usize,
}

fn expected<T>(found: &str, wanted: &str) -> Result<T, SelectorError> {
    Err(SelectorError(format!("found '{found}', expected: {wanted}")))
}

impl<'a> Parser<'a> {
    fn peek(&self) -> (Token, &'a str) {
        self.tokens.get(self.at).copied().unwrap_or((Token::End, ""))
    }

    /// Where a key or value is due, `in` and `notin` are words like any other.
    fn peek_value(&self) -> (Token, &'a str) {
        match self.peek() {
            (Token::In | Token::NotIn, word) => (Token::Word, word),
            token => token,
        }
    }

    fn next_value(&mut self) -> (Token, &'a str) {
        let token = self.peek_value();
        self.at += 1;
        token
    }

    fn selector(mut self) -> Result<LabelSelector, SelectorError> {
        let mut requirements = Vec::new();
        loop {
            match self.peek_value() {
                (Token::Word | Token::Bang, _) => {}
                (Token::End, _) => break,
                (_, found) => return expected(found, "!, identifier, or 'end of string'"),
            }
            let requirement =
                self.requirement().map_err(|error| SelectorError(format!("unable to parse requirement: {error}")))?;
            requirements.push(requirement);
            match self.next_value() {
                (Token::End, _) => break,
                (Token::Comma, _) => match self.peek_value() {
                    (Token::Word | Token::Bang, _) => {}
                    (_, found) => return expected(found, "identifier after ','"),
                },
                (_, found) => return expected(found, "',' or 'end of string'"),
            }
        }
        requirements.sort_by(|a: &Requirement, b| a.key.cmp(&b.key));
        Ok(LabelSelector { requirements })
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let mut operator = None;
        let (mut token, mut key) = self.next_value();
        if token == Token::Bang {
            operator = Some(Operator::DoesNotExist);
            (token, key) = self.next_value();
        }
        if token != Token::Word {
            return expected(key, "identifier");
        }
        let problems = names::label_key(key);
        if !problems.is_empty() {
            // The key has no path here: upstream prints Go's nil.
            return Err(SelectorError(format!("<nil>: Invalid value: {key:?}: {}", problems.join("; "))));
        }
        if operator.is_none() && matches!(self.peek_value().0, Token::End | Token::Comma) {
            operator = Some(Operator::Exists);
        }
        if let Some(operator) = operator {
            return Requirement::new(key, operator, Vec::new());
        }
        let (token, found) = self.peek();
        self.at += 1;
        let operator = match token {
            Token::In => return Requirement::new(key, Operator::In, self.set()?),
            Token::NotIn => return Requirement::new(key, Operator::NotIn, self.set()?),
            Token::Equals | Token::DoubleEquals => Operator::In,
            Token::NotEquals => Operator::NotIn,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            _ => return expected(found, "in, notin, =, ==, !=, gt, lt"),
        };
        Requirement::new(key, operator, vec![self.exact_value()?])
    }

    fn exact_value(&mut self) -> Result<String, SelectorError> {
        match self.peek_value() {
            (Token::End | Token::Comma, _) => Ok(String::new()),
            (Token::Word, word) => {
                self.at += 1;
                Ok(word.to_owned())
            }
            (_, found) => expected(found, "identifier"),
        }
    }

    /// `(a, b)`; a gap between commas is the empty value.
    fn set(&mut self) -> Result<Vec<String>, SelectorError> {
        let (token, found) = self.next_value();
        if token != Token::Open {
            return expected(found, "'('");
        }
        let mut values = Vec::new();
        if self.peek_value().0 == Token::Close {
            self.at += 1;
            return Ok(values);
        }
        loop {
            match self.next_value() {
                (Token::Word, word) => {
                    values.push(word.to_owned());
                    match self.next_value() {
                        (Token::Comma, _) => {
                            if self.peek_value().0 == Token::Close {
                                values.push(String::new());
                            }
                        }
                        (Token::Close, _) => return Ok(values),
                        (_, found) => return expected(found, "',' or ')'"),
                    }
                }
                (Token::Comma, _) => {
                    values.push(String::new());
                    if self.peek_value().0 == Token::Close {
                        values.push(String::new());
                    }
                }
                (Token::Close, _) => return Ok(values),
                (_, found) => return expected(found, "',', ')' or identifier"),
            }
        }
    }
}

impl LabelSelector {
    /// Parses the `labelSelector` parameter; empty selects everything.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Parser { tokens: tokens(text), at: 0 }.selector()
    }
}

impl std::str::FromStr for LabelSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Self::parse(text)
    }
}
