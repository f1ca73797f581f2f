#include "compare.h"

#include <check.h>
#include <math.h>

void rt_assert_close(const rt_compare *c, const double *got, const double *want, int64_t n)
{
    int64_t first = -1, worst = -1, n_bad = 0, n_zero = 0;
    double worst_excess = -1;
    for (int64_t i = 0; i < n; i++) {
        double limit = c->atol + c->rtol * fabs(want[i]), diff = fabs(got[i] - want[i]);
        n_zero += want[i] == 0;
        if (diff <= limit) continue;
        if (first < 0) first = i;
        double excess = isnan(diff) ? HUGE_VAL : diff / (limit > 0 ? limit : 1e-300);
        if (excess > worst_excess) {
            worst_excess = excess;
            worst = i;
        }
        n_bad++;
    }
    if (n_bad) {
        double d = got[first] - want[first];
        ck_abort_msg("%s: %lld of %lld differ; first at %lld: got %.17g, want %.17g (absolute %.3g, relative %.3g; allowed "
                     "%.3g + %.3g |want|); worst at %lld: got %.17g, want %.17g; seed %llu; repeat: %s",
                     c->what, (long long)n_bad, (long long)n, (long long)first, got[first], want[first], fabs(d),
                     fabs(d) / fabs(want[first]), c->atol, c->rtol, (long long)worst, got[worst], want[worst],
                     (unsigned long long)c->seed, c->repeat);
    }
    if (!c->sparse && n >= 8 && n_zero * 2 > n)
        ck_abort_msg("%s: %lld of %lld wanted values are zero: this comparison shows little (mark the case sparse if that "
                     "is right); seed %llu; repeat: %s",
                     c->what, (long long)n_zero, (long long)n, (unsigned long long)c->seed, c->repeat);
}
