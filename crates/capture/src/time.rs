//! LSNs and times as PostgreSQL writes them.

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Days from 0000-03-01, where the calculation below starts, to 2000-01-01, where PostgreSQL's time starts.
const DAYS_TO_2000: i64 = 730_425;

/// Days of 400 years of the Gregorian calendar, after which it repeats.
const DAYS_PER_ERA: i64 = 146_097;

/// Appends a number in decimal. Not by format!: for small transactions, numbers, times and LSNs were 4% of the cost of
/// capturing.
pub fn push_number(out: &mut String, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] += (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    digits[first..].iter().for_each(|&digit| out.push(char::from(digit)));
}

/// Appends the last `count` decimal digits of a number.
fn push_digits(out: &mut String, number: i64, count: u32) {
    for place in (0..count).rev() {
        let digit = number / 10_i64.pow(place) % 10;
        out.push(char::from(b'0' + digit.unsigned_abs() as u8));
    }
}

/// Appends an LSN as pg_lsn's text.
pub fn push_lsn(out: &mut String, lsn: u64) {
    for (half, separator) in [(lsn >> 32, "/"), (lsn & 0xffff_ffff, "")] {
        let digits = (u64::BITS - half.leading_zeros()).div_ceil(4).max(1);
        for place in (0..digits).rev() {
            let digit = (half >> (4 * place) & 0xf) as u32;
            out.extend(char::from_digit(digit, 16).map(|digit| digit.to_ascii_uppercase()));
        }
        out.push_str(separator);
    }
}

/// Appends microseconds since 2000-01-01 as to_jsonb(timestamptz) has them in UTC: `2026-11-20T12:00:00.5+00:00`.
pub fn push_iso_time(out: &mut String, micros: i64) {
    let seconds = micros.div_euclid(MICROS_PER_SECOND);
    let fraction = micros.rem_euclid(MICROS_PER_SECOND);
    let (year, month, day) = civil(seconds.div_euclid(SECONDS_PER_DAY));
    let second = seconds.rem_euclid(SECONDS_PER_DAY);
    // There is no year 0: it is 1 BC.
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    match year {
        0..10_000 => push_digits(out, year, 4),
        _ => push_number(out, year.unsigned_abs()),
    }
    for (separator, number) in [('-', month), ('-', day), ('T', hour), (':', minute), (':', second)]
    {
        out.push(separator);
        push_digits(out, number, 2);
    }
    if fraction != 0 {
        out.push('.');
        push_digits(out, fraction, 6);
        out.truncate(out.trim_end_matches('0').len());
    }
    out.push_str("+00:00");
    out.push_str(era);
}

/// Year, month and day of a number of days since 2000-01-01. Years are counted from March, so that the leap day is the
/// last day.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_2000;
    let era = days.div_euclid(DAYS_PER_ERA);
    let day = days.rem_euclid(DAYS_PER_ERA);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months of 31 and 30 days alternate in fives of 153 days.
    let march_month = (5 * day + 2) / 153;
    let day = day - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lsn(lsn: u64) -> String {
        let mut text = String::new();
        push_lsn(&mut text, lsn);
        text
    }

    fn iso_time(micros: i64) -> String {
        let mut text = String::new();
        push_iso_time(&mut text, micros);
        text
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 4_096, u64::MAX] {
            let mut text = String::new();
            push_number(&mut text, number);
            assert_eq!(text, number.to_string());
        }
    }

    #[test]
    fn lsns_are_two_hexadecimal_numbers() {
        assert_eq!(lsn(0), "0/0");
        assert_eq!(lsn(0x16b_3748), "0/16B3748");
        assert_eq!(lsn(0xffff_ffff_0000_000a), "FFFFFFFF/A");
    }

    /// Computed by PostgreSQL.
    #[test]
    fn times_are_as_postgresql_writes_them() {
        for (micros, text) in [
            (0, "2000-01-01T00:00:00+00:00"),
            (848_491_200_123_456, "2026-11-20T12:00:00.123456+00:00"),
            (848_491_200_500_000, "2026-11-20T12:00:00.5+00:00"),
            (-1, "1999-12-31T23:59:59.999999+00:00"),
            (5_140_799_999_999, "2000-02-29T11:59:59.999999+00:00"),
            (-63_082_281_600_000_000, "0001-01-01T00:00:00+00:00"),
            (-63_082_281_600_000_001, "0001-12-31T23:59:59.999999+00:00 BC"),
            (252_455_616_000_000_000, "10000-01-01T00:00:00+00:00"),
        ] {
            assert_eq!(iso_time(micros), text);
        }
    }

    #[test]
    fn each_day_is_the_day_after_the_last() {
        let length = |year: i64, month: i64| match month {
            2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let mut expected = (2000, 1, 1);
        for days in 0..400_000 {
            assert_eq!(civil(days), expected);
            let (year, month, day) = expected;
            expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (month, day) if day == length(year, month) => (year, month + 1, 1),
                (month, day) => (year, month, day + 1),
            };
        }
        assert_eq!(civil(-1), (1999, 12, 31));
    }

    #[test]
    fn no_number_is_too_large() {
        iso_time(i64::MAX);
        iso_time(i64::MIN);
    }
}
