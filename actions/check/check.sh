#!/usr/bin/env bash
# Run quantviz check with the settings of the environment, write its reports, and end as the outcome asks.
set -u
mkdir -p "$REPORT"
given=()
if [ -n "${BASELINE:-}" ]; then given+=(--baseline "$BASELINE"); fi
status=0
python -m quantviz check "$CHECK" "${given[@]}" --workers "$WORKERS" --cache "$CACHE" \
  --json "$REPORT/check.json" --junit "$REPORT/check.xml" --markdown "$REPORT/check.md" || status=$?
case $status in
  0) outcome=holds ;;
  1) outcome=broken ;;
  3) outcome=undecided ;;
  *) outcome=error ;;
esac
# Status 1 is also that of an error of the machine, which leaves no report.
if [ $status = 1 ] && [ ! -f "$REPORT/check.json" ]; then outcome=error; fi
if [ -n "${GITHUB_OUTPUT:-}" ]; then echo "outcome=$outcome" >> "$GITHUB_OUTPUT"; fi
if [ -n "${GITHUB_STEP_SUMMARY:-}" ] && [ -f "$REPORT/check.md" ]; then cat "$REPORT/check.md" >> "$GITHUB_STEP_SUMMARY"; fi
if [ $outcome = undecided ] && [ "${UNDECIDED:-fail}" = pass ]; then exit 0; fi
exit $status
