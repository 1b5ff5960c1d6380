#include "problems.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

#include "fibers.h"

namespace msl {

static pthread_mutex_t recording = PTHREAD_MUTEX_INITIALIZER;

static u64 offset_in_code(const Worker *w, u64 address) {
  return address >= w->code_low && address < w->code_high ? address - w->code_low : 0;
}

static void record(Worker *w, Kind kind, bool fatal, u64 code, u64 other, const char *format, va_list values) {
  Launch *launch = w->launch;
  code = offset_in_code(w, code);
  other = offset_in_code(w, other);
  pthread_mutex_lock(&recording);
  u32 known = launch->problem_count < MAX_PROBLEMS ? launch->problem_count : (u32)MAX_PROBLEMS;
  bool seen = false;
  for (u32 i = 0; i < known && !fatal; i++) {
    const Problem &problem = launch->problems[i];
    seen = seen || (problem.kind == (u32)kind && problem.code[0] == code && problem.code[1] == other);
  }
  if (!seen) {
    // A fatal problem is never crowded out: it is why the outputs are worthless.
    u32 at = known < MAX_PROBLEMS ? known : (u32)MAX_PROBLEMS - 1;
    if (known < MAX_PROBLEMS || fatal) {
      Problem &problem = launch->problems[at];
      problem.kind = (u32)kind;
      problem.fatal = fatal;
      problem.thread = w->current ? w->current->index : ~0u;
      for (int i = 0; i < 3; i++) problem.threadgroup[i] = w->group_position[i];
      problem.code[0] = code;
      problem.code[1] = other;
      vsnprintf(problem.message, sizeof problem.message, format, values);
    }
    if (launch->problem_count <= MAX_PROBLEMS) launch->problem_count++;
  }
  pthread_mutex_unlock(&recording);
}

void report(Worker *w, Kind kind, u64 code, u64 other, const char *format, ...) {
  va_list values;
  va_start(values, format);
  record(w, kind, false, code, other, format, values);
  va_end(values);
}

void fail(Worker *w, Kind kind, u64 code, u64 other, const char *format, ...) {
  va_list values;
  va_start(values, format);
  record(w, kind, true, code, other, format, values);
  va_end(values);
  w->aborted = true;
  leave(w);
}

void report_launch(Launch *launch, Kind kind, const char *format, ...) {
  Problem &problem = launch->problems[launch->problem_count++];
  problem.kind = (u32)kind;
  problem.fatal = 1;
  problem.thread = ~0u;
  va_list values;
  va_start(values, format);
  vsnprintf(problem.message, sizeof problem.message, format, values);
  va_end(values);
}

}  // namespace msl
