//! Numbers and names as a reader wants them: as many digits as mean something, thousands separated, underscores as spaces.
//! It knows nothing of records or pages.

/// What stands for a number that does not exist.
pub const MISSING: &str = "–";

/// A name for people: underscores become spaces.
pub fn humanised(name: &str) -> String {
    name.replace('_', " ")
}

/// The text with a capital letter; a symbol such as f keeps its case.
pub fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if letters.clone().next().is_some_and(char::is_alphanumeric) => first.to_uppercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}

/// Each part as a sentence.
pub fn sentences(parts: &[String]) -> String {
    parts.iter().map(|part| format!("{part}.")).collect::<Vec<_>>().join(" ")
}

/// A number to `digits` significant digits, plain from 0.001 up to a million and with an exponent beyond.
pub fn significant(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return if value.is_nan() { MISSING.into() } else { value.to_string() };
    }
    if value == 0.0 {
        return "0".into();
    }
    let after = digits.saturating_sub(1);
    // The exponent of the rounded number: 9.9996e-4 reads 0.001 to four digits.
    let rounded = format!("{value:.after$e}");
    let Some((mantissa, exponent)) = rounded.split_once('e') else { return rounded };
    match exponent.parse::<i32>() {
        Ok(exponent @ -3..6) => {
            let decimals = usize::try_from(after as i32 - exponent).unwrap_or(0);
            grouped(&trimmed(&format!("{value:.decimals$}")))
        }
        _ => format!("{}e{exponent}", trimmed(mantissa)),
    }
}

/// A count: `12,800,000`; a mean of counts that is no whole number keeps four digits.
pub fn count(value: f64) -> String {
    if value.is_finite() && value.fract() == 0.0 && value.abs() < 1e15 {
        grouped(&format!("{value:.0}"))
    } else {
        significant(value, 4)
    }
}

/// `mean ± deviation`, cut where the deviation's second digit stands: more digits would be noise.
pub fn with_deviation(mean: f64, deviation: f64) -> String {
    if !(mean.is_finite() && deviation.is_finite() && deviation > 0.0) {
        let mean = significant(mean, 4);
        return if deviation == 0.0 { format!("{mean} ± 0") } else { mean };
    }
    let largest = exponent(mean.abs().max(deviation));
    let (shift, suffix) = if (-3..6).contains(&largest) { (0, String::new()) } else { (largest, format!("e{largest}")) };
    // Dividing by 10^shift in two steps: 10^-shift overflows for subnormal numbers.
    let scaled = |x: f64| x / 10f64.powi(shift / 2) / 10f64.powi(shift - shift / 2);
    let (mean, deviation) = (scaled(mean), scaled(deviation));
    let decimals = usize::try_from(1 - exponent(deviation)).unwrap_or(0).min(12);
    let text = format!("{} ± {}", grouped(&format!("{mean:.decimals$}")), grouped(&format!("{deviation:.decimals$}")));
    if suffix.is_empty() { text } else { format!("({text}){suffix}") }
}

/// ⌊log₁₀|x|⌋ of a finite nonzero number, from its decimal form: the logarithm rounds wrongly just below powers of ten.
pub fn exponent(value: f64) -> i32 {
    format!("{value:e}").split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0)
}

/// A plain decimal number with commas between thousands, from five digits on.
pub fn grouped(text: &str) -> String {
    let (sign, rest) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, fraction) = rest.split_once('.').map_or((rest, None), |(w, f)| (w, Some(f)));
    let mut out = sign.to_owned();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && whole.len() > 4 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

fn trimmed(decimal: &str) -> String {
    if decimal.contains('.') { decimal.trim_end_matches('0').trim_end_matches('.').to_owned() } else { decimal.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_carry_the_digits_that_mean_something() {
        assert_eq!(significant(0.951234, 4), "0.9512");
        assert_eq!(significant(1.0, 4), "1");
        assert_eq!(significant(-12345.6, 4), "-12,346");
        assert_eq!(significant(0.000123456, 3), "1.23e-4");
        assert_eq!(significant(2.5e7, 3), "2.5e7");
        assert_eq!(significant(9.9996e-4, 4), "0.001");
        assert_eq!(significant(999_999.9, 4), "1e6");
        assert_eq!(significant(f64::NAN, 4), MISSING);
        assert_eq!(significant(f64::INFINITY, 4), "inf");
        assert_eq!(count(12_800_000.0), "12,800,000");
        assert_eq!(count(1024.0), "1024");
        assert_eq!(with_deviation(0.951234, 0.0031), "0.9512 ± 0.0031");
        assert_eq!(with_deviation(1234.56, 78.9), "1235 ± 79");
        assert_eq!(with_deviation(1.5e-6, 2.0e-8), "(1.500 ± 0.020)e-6");
        assert_eq!(with_deviation(0.5, 0.0), "0.5 ± 0");
        assert_eq!(with_deviation(0.5, f64::NAN), "0.5");
    }

    #[test]
    fn extreme_numbers_do_not_panic() {
        for x in [5e-324, -5e-324, 1e308, f64::MAX, f64::MIN_POSITIVE, 0.0, -0.0, f64::NAN, f64::INFINITY] {
            for y in [5e-324, 1e308, f64::MAX, 0.0, 1.0] {
                assert!(!with_deviation(x, y).is_empty() && !significant(x, 4).is_empty() && !count(x).is_empty());
            }
        }
        assert_eq!(exponent(0.001), -3);
        assert_eq!(exponent(999.9), 2);
    }
}
