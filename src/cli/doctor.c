#include "doctor.h"

#include "base/log.h"
#include "cli/cli.h"

#include <getopt.h>
#include <string.h>

static const char usage[] =
	"usage: aerie doctor [--json] [--fix [--persist]] [--root DIR]\n"
	"\n"
	"Says whether this host can nest, and if not, what to type. Exit code 0: it can.\n"
	"\n"
	"  --json      findings as JSON\n"
	"  --fix       reload kvm_intel or kvm_amd with nested=1, and on Intel with VMCS shadowing\n"
	"  --persist   with --fix: also write " MODPROBE_OWN_FILE "\n"
	"  --root DIR  examine the tree below DIR, such as a recorded one; loads no modules\n"
	"  --help      this text\n";

struct options {
	bool json, fix, persist, help;
	const char *root;
};

static int parse(int argc, char **argv, struct options *options)
{
	static const struct option longs[] = {
		{"json", no_argument, NULL, 'j'},    {"fix", no_argument, NULL, 'f'},
		{"persist", no_argument, NULL, 'p'}, {"root", required_argument, NULL, 'r'},
		{"help", no_argument, NULL, 'h'},    {0},
	};
	int c;
	optind = 0; /* glibc: begin anew, for another command may have parsed before */
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", longs, NULL)) != -1) {
		switch (c) {
		case 'j':
			options->json = true;
			break;
		case 'f':
			options->fix = true;
			break;
		case 'p':
			options->persist = true;
			break;
		case 'r':
			options->root = optarg;
			break;
		case 'h':
			options->help = true;
			return CLI_OK;
		case ':':
			log_error("doctor: %s needs a value", argv[optind - 1]);
			return CLI_USAGE;
		default:
			log_error("doctor: unknown option %s (see aerie doctor --help)", argv[optind - 1]);
			return CLI_USAGE;
		}
	}
	if (optind < argc) {
		log_error("doctor: unexpected argument %s (see aerie doctor --help)", argv[optind]);
		return CLI_USAGE;
	}
	if (options->persist && !options->fix) {
		log_error("doctor: --persist goes with --fix");
		return CLI_USAGE;
	}
	return CLI_OK;
}

static int examine(const struct options *options)
{
	struct err err = ERR_INIT;
	struct doctor_case patient = {.root = options->root};
	struct findings findings, done = {0};
	if (host_facts_gather(options->root, &patient.facts, &err) < 0) {
		log_error("doctor: %s", err.text);
		return CLI_FAILED;
	}
	if (options->fix)
		doctor_fix(&patient, options->root ? NULL : &doctor_runner_spawn, options->persist, &done);
	doctor_examine(&patient, &findings);
	int r = 0;
	if (options->json)
		r = doctor_print_json(&patient.facts, &findings, options->fix ? &done : NULL);
	else
		doctor_print_text(&patient.facts, &findings, options->fix ? &done : NULL);
	if (r == 0)
		r = print_flush();
	if (r < 0) {
		log_error("doctor: cannot print: %s", strerror(-r));
		return CLI_FAILED;
	}
	return findings_with(&findings, FINDING_FAIL) || findings_with(&done, FINDING_FAIL) ? CLI_FAILED
											    : CLI_OK;
}

int cli_doctor(int argc, char **argv)
{
	struct options options = {0};
	int code = parse(argc, argv, &options);
	if (code != CLI_OK)
		return code;
	if (!options.help)
		return examine(&options);
	print_out("%s", usage);
	return print_flush() < 0 ? CLI_FAILED : CLI_OK;
}
