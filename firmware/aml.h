/*
 * ACPI Machine Language, as much of it as our DSDT needs (ACPI 6.5, chapter 20).
 *
 * Each function appends one term to the writer. What contains other terms is opened and closed: closing
 * puts in the PkgLength (20.2.4), which stands before the contents but is known only after them.
 *
 *	size_t device = aml_open_device(w, "COM1");
 *	aml_name(w, "_UID");
 *	aml_integer(w, 1);
 *	aml_close(w, device);
 */
#ifndef AERIE_FIRMWARE_AML_H
#define AERIE_FIRMWARE_AML_H

#include "base/bytes.h"

/* Names are four characters; `aml_open_scope` takes one below the root. */
size_t aml_open_scope(struct writer *w, const char *name);
size_t aml_open_device(struct writer *w, const char *name);
size_t aml_open_package(struct writer *w, uint8_t count);
size_t aml_open_method(struct writer *w, const char *name, uint8_t args);
size_t aml_open_length(struct writer *w); /* after the bytes of another operator that has a PkgLength */
void aml_close(struct writer *w, size_t opened);

void aml_name(struct writer *w, const char *name); /* Name (name, <the next term>) */
void aml_integer(struct writer *w, uint64_t value);
void aml_string(struct writer *w, const char *text);
void aml_notify(struct writer *w, const char *scope, const char *device, uint8_t value); /* \\scope.device */
void aml_buffer(struct writer *w, const void *data, size_t len);
void aml_eisa_id(struct writer *w, const char *id); /* "PNP0501" */

/* Resource descriptors (6.4), gathered in a writer of their own and then appended as one buffer. */
void aml_resource_io(struct writer *resources, uint16_t port, uint8_t count);
void aml_resource_irq(struct writer *resources, uint8_t irq);	     /* edge, active high, exclusive */
void aml_resource_interrupt(struct writer *resources, uint32_t gsi); /* the same, for any GSI */
void aml_resource_memory32(struct writer *resources, uint32_t gpa, uint32_t size); /* its own, fixed */
/* What a bridge hands on to what is behind it: buses, ports, and memory below or above 4 GiB. Limits
 * included. */
void aml_window_bus(struct writer *resources, uint16_t first, uint16_t last);
void aml_window_io(struct writer *resources, uint16_t first, uint16_t last);
void aml_window_memory32(struct writer *resources, uint32_t first, uint32_t last);
void aml_window_memory64(struct writer *resources, uint64_t first, uint64_t last);
void aml_resources(struct writer *w, struct writer *resources);

#endif
