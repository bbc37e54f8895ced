#include "cmos_time.h"

#include <stdbool.h>

enum { MINUTE = 60, HOUR = 60 * MINUTE, DAY = 24 * HOUR };

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

static int64_t floor_mod(int64_t a, int64_t b)
{
	return a - floor_div(a, b) * b;
}

struct date {
	int64_t year;
	int64_t month; /* 1 to 12 */
	int64_t day;   /* 1 to 31 */
};

/*
 * The Gregorian calendar repeats every 400 years of 146097 days. With years that begin in March the leap day
 * comes last, and the months' days before it follow a line: (153 * month + 2) / 5 (H. Hinnant,
 * "chrono-Compatible Low-Level Date Algorithms"). 719468 days lie between 0000-03-01 and 1970-01-01.
 */
static int64_t days_of_date(struct date date)
{
	int64_t year = date.year + floor_div(date.month - 3, 12);
	int64_t month = floor_mod(date.month - 3, 12); /* from March */
	int64_t era = floor_div(year, 400);
	int64_t year_of_era = year - era * 400;
	int64_t day_of_year = (153 * month + 2) / 5 + date.day - 1;
	int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
	return era * 146097 + day_of_era - 719468;
}

static struct date date_of_days(int64_t days)
{
	days += 719468;
	int64_t era = floor_div(days, 146097);
	int64_t day_of_era = days - era * 146097;
	int64_t year_of_era =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t month = (5 * day_of_year + 2) / 153; /* from March */
	return (struct date){
		.year = era * 400 + year_of_era + (month >= 10),
		.month = month < 10 ? month + 3 : month - 9,
		.day = day_of_year - (153 * month + 2) / 5 + 1,
	};
}

/* 0 to 99, or 0 to 59 for most. */
static uint8_t encode(uint8_t control_b, int64_t value)
{
	return (uint8_t)(control_b & CMOS_B_BINARY ? value : value / 10 * 16 + value % 10);
}

static int64_t decode(uint8_t control_b, uint8_t byte)
{
	return control_b & CMOS_B_BINARY ? byte : (byte >> 4) * 10 + (byte & 0xf);
}

/* With 12 hours a day starts at 12, and bit 7 says that it is afternoon. */
static uint8_t encode_hour(uint8_t control_b, int64_t hour)
{
	if (control_b & CMOS_B_24_HOURS)
		return encode(control_b, hour);
	uint8_t byte = encode(control_b, hour % 12 ? hour % 12 : 12);
	return hour < 12 ? byte : byte | 0x80;
}

static int64_t decode_hour(uint8_t control_b, uint8_t byte)
{
	if (control_b & CMOS_B_24_HOURS)
		return decode(control_b, byte);
	return decode(control_b, byte & 0x7f) % 12 + (byte & 0x80 ? 12 : 0);
}

void cmos_time_encode(uint8_t ram[CMOS_BYTES], uint8_t control_b, int64_t seconds)
{
	int64_t days = floor_div(seconds, DAY);
	int64_t second_of_day = floor_mod(seconds, DAY);
	struct date date = date_of_days(days);
	ram[CMOS_SECONDS] = encode(control_b, second_of_day % MINUTE);
	ram[CMOS_MINUTES] = encode(control_b, second_of_day / MINUTE % 60);
	ram[CMOS_HOURS] = encode_hour(control_b, second_of_day / HOUR);
	ram[CMOS_DAY_OF_WEEK] = encode(control_b, floor_mod(days + 4, 7) + 1); /* 1970 began on a Thursday */
	ram[CMOS_DAY] = encode(control_b, date.day);
	ram[CMOS_MONTH] = encode(control_b, date.month);
	ram[CMOS_YEAR] = encode(control_b, floor_mod(date.year, 100));
	ram[CMOS_CENTURY] = encode(control_b, floor_mod(floor_div(date.year, 100), 100));
}

int64_t cmos_time_decode(const uint8_t ram[CMOS_BYTES], uint8_t control_b)
{
	struct date date = {
		.year = decode(control_b, ram[CMOS_CENTURY]) * 100 + decode(control_b, ram[CMOS_YEAR]),
		.month = decode(control_b, ram[CMOS_MONTH]),
		.day = decode(control_b, ram[CMOS_DAY]),
	};
	return days_of_date(date) * DAY + decode_hour(control_b, ram[CMOS_HOURS]) * HOUR +
	       decode(control_b, ram[CMOS_MINUTES]) * MINUTE + decode(control_b, ram[CMOS_SECONDS]);
}

enum { ANY = -1, NEVER = -2 };

/* Which of the values 0 to count - 1 an alarm byte stands for. */
static int64_t alarm_value(uint8_t control_b, uint8_t byte, uint8_t (*encode_value)(uint8_t, int64_t),
			   int64_t count)
{
	if (byte >= 0xc0)
		return ANY;
	for (int64_t value = 0; value < count; value++)
		if (encode_value(control_b, value) == byte)
			return value;
	return NEVER;
}

static bool alarm_matches(int64_t alarm, int64_t value)
{
	return alarm == ANY || alarm == value;
}

int64_t cmos_alarm_next(const uint8_t ram[CMOS_BYTES], uint8_t control_b, int64_t after)
{
	int64_t hour = alarm_value(control_b, ram[CMOS_HOURS_ALARM], encode_hour, 24);
	int64_t minute = alarm_value(control_b, ram[CMOS_MINUTES_ALARM], encode, 60);
	int64_t second = alarm_value(control_b, ram[CMOS_SECONDS_ALARM], encode, 60);
	if (hour == NEVER || minute == NEVER || second == NEVER)
		return INT64_MAX;
	/* Each step leaves a whole hour or minute behind, so this takes some 200 steps at most. */
	int64_t t = after + 1;
	for (;;) {
		int64_t second_of_day = floor_mod(t, DAY);
		if (!alarm_matches(hour, second_of_day / HOUR))
			t += HOUR - second_of_day % HOUR;
		else if (!alarm_matches(minute, second_of_day / MINUTE % 60))
			t += MINUTE - second_of_day % MINUTE;
		else if (!alarm_matches(second, second_of_day % MINUTE))
			t++;
		else
			return t;
	}
}
