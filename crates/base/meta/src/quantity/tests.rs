use proptest::prelude::*;

use super::*;

#[test]
fn prints_gos_canonical_form() {
    for (text, canonical) in [
        ("0", "0"),
        ("0.0Ki", "0"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1.5", "1500m"),
        ("0.5", "500m"),
        ("1000", "1k"),
        ("1000m", "1"),
        ("100m", "100m"),
        ("0.1m", "100u"),
        ("1n", "1n"),
        ("0.1n", "1n"),
        ("12e6", "12e6"),
        ("12000e3", "12e6"),
        ("1e2", "100"),
        ("512Ki", "512Ki"),
        ("1023", "1023"),
        ("0.5Ki", "512"),
        ("-1.5Gi", "-1536Mi"),
        ("+5", "5"),
        ("1.", "1"),
        (".5", "500m"),
        ("128974848", "128974848"),
        ("129e6", "129e6"),
        ("8Ei", "9223372036854775807"),
        ("123Mi", "123Mi"),
    ] {
        assert_eq!(Quantity::parse(text).expect(text).to_string(), canonical, "{text}");
    }
}

#[test]
fn refuses_what_upstream_refuses() {
    for (text, error) in [
        ("", QuantityError::Format),
        ("abc", QuantityError::Format),
        ("1x", QuantityError::Format),
        ("1.2.3", QuantityError::Format),
        ("1kk", QuantityError::Suffix),
        ("1e", QuantityError::Suffix),
        ("1Kii", QuantityError::Suffix),
        ("1 Gi", QuantityError::Format),
        ("é", QuantityError::Format),
        ("1e99999999999", QuantityError::Suffix),
    ] {
        assert_eq!(Quantity::parse(text), Err(error), "{text}");
    }
}

#[test]
fn reprints_what_go_remembers() {
    for (text, printed) in
        [("1024Mi", "1Gi"), ("1.500", "1.500"), ("0100m", "0100m"), ("1000", "1k"), (" 1Gi ", "1Gi"), ("16Ki", "16Ki")]
    {
        assert_eq!(reprint(text).expect(text), printed);
    }
}

#[test]
fn rounds_away_from_zero() {
    let parse = |text| Quantity::parse(text).expect(text);
    assert_eq!(parse("1100m").value(), 2);
    assert_eq!(parse("-1100m").value(), -2);
    assert_eq!(parse("1u").milli_value(), 1);
    assert_eq!(parse("1u").rounded_to_milli().to_string(), "1m");
    assert_eq!(parse("1e30").value(), i64::MAX);
    assert_eq!((parse("1Gi") - parse("512Mi")).to_string(), "512Mi");
    assert_eq!((Quantity::ZERO + parse("1Gi")).to_string(), "1Gi");
    assert!(parse("1Gi") == parse("1024Mi") && parse("1Gi") > parse("1G"));
}

proptest! {
    #[test]
    fn canonical_text_keeps_the_amount(
        amount in any::<i64>(), fraction in 0u32..1_000_000_000, suffix in "(|n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e3|E-2)"
    ) {
        for text in [format!("{amount}{suffix}"), format!("{}.{fraction:09}{suffix}", amount / 1000)] {
            let quantity = Quantity::parse(&text).expect("a quantity");
            let printed = quantity.to_string();
            let again = Quantity::parse(&printed).expect("what it printed");
            prop_assert_eq!(again, quantity, "{} {}", text, printed);
            prop_assert_eq!(again.to_string(), printed);
        }
    }

    #[test]
    fn sums_undo(a in any::<i64>(), b in any::<i64>()) {
        let (a, b) = (Quantity::from_milli(a, Format::DecimalSi), Quantity::from_milli(b, Format::BinarySi));
        prop_assert_eq!(a + b - b, a);
        prop_assert_eq!(a.cmp(&b), (a - b).cmp(&Quantity::ZERO));
    }

    #[test]
    fn any_text_parses_or_fails_without_panic(text in ".{0,24}", close in "[-+]?[0-9.]{0,45}[eEinumkKMGTP]{0,2}[-+]?[0-9]{0,12}") {
        for text in [text, close] {
            if let Ok(quantity) = Quantity::parse(&text) {
                let printed = quantity.to_string();
                prop_assert_eq!(Quantity::parse(&printed).expect("what it printed"), quantity, "{} {}", text, printed);
            }
            let _ = reprint(&text);
        }
    }
}
