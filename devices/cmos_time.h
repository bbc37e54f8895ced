/*
 * Time as the registers of an MC146818A hold it, and back. Pure functions; seconds are those since 1970 in
 * UTC, of any sign, leap seconds not counted.
 */
#ifndef AERIE_DEVICES_CMOS_TIME_H
#define AERIE_DEVICES_CMOS_TIME_H

#include "base/layout.h"

#include <stdint.h>

enum {
	CMOS_SECONDS = 0x00,
	CMOS_SECONDS_ALARM = 0x01,
	CMOS_MINUTES = 0x02,
	CMOS_MINUTES_ALARM = 0x03,
	CMOS_HOURS = 0x04,
	CMOS_HOURS_ALARM = 0x05,
	CMOS_DAY_OF_WEEK = 0x06, /* 1 is Sunday */
	CMOS_DAY = 0x07,
	CMOS_MONTH = 0x08,
	CMOS_YEAR = 0x09,
	CMOS_CENTURY = LAYOUT_CMOS_CENTURY,
	CMOS_BYTES = 128,

	/* Bits of register B that say how the bytes are to be read. */
	CMOS_B_24_HOURS = 0x02,
	CMOS_B_BINARY = 0x04, /* else BCD */
};

/* Fill the eight time registers of `ram`. Years outside 0 to 9999 lose their higher digits. */
void cmos_time_encode(uint8_t ram[CMOS_BYTES], uint8_t control_b, int64_t seconds);

/* What they say; the day of week is not asked. Any bytes give some time: the 31st of February is in March. */
int64_t cmos_time_decode(const uint8_t ram[CMOS_BYTES], uint8_t control_b);

/*
 * The first second after `after` at which the alarm registers match the time, or INT64_MAX when no time of
 * day does. An alarm byte of 0xc0 and more matches everything (datasheet, "Time, calendar and alarm
 * locations").
 */
int64_t cmos_alarm_next(const uint8_t ram[CMOS_BYTES], uint8_t control_b, int64_t after);

#endif
