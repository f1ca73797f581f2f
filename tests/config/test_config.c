/* The config reader: defaults, echo, overrides, paths, and a table of malformed configs with the message each must
 * give. */
#include "support/suite.h"

#include <limits.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "config/config.h"

static rt_status parse(const char *text, rt_config *c)
{
    return rt_config_parse("x.yaml", text, strlen(text), NULL, 0, c);
}

static const char minimal[] = "version: 1\ndata:\n  train: pics\n";

START_TEST(defaults_are_in_range)
{
    rt_config c = {0};
    rt_ok(parse(minimal, &c));
    ck_assert_str_eq(c.network.arch, "convnet");
    ck_assert_int_eq(c.network.width, 128);
    ck_assert(c.backend.strict);
    ck_assert_int_eq(c.set.ipc.n, 1);
    ck_assert_int_eq(c.set.ipc.v[0], 10);
    ck_assert_int_eq(c.methods.names.n, 5);
    ck_assert_str_eq(c.methods.names.v[4], "dm");
    rt_assert_near(c.data.mean[2], 0.406, 0, 0);
    ck_assert_str_eq(c.data.classes, "");
    rt_config_fini(&c);
    rt_config_fini(&c);
    rt_config_fini(NULL);
}
END_TEST

START_TEST(values_are_read)
{
    rt_config c = {0};
    rt_ok(parse(
        "# comment\nversion: 1\nname: \"a-b.c\"\nseed: 9223372036854775807\ndata: {kind: cifar10, train: t, mean: "
        "[0.1, 0, 1], size: 64}\n"
        "set:\n  ipc: [1, 10,\n        50]\nmetrics: {k: 3, enabled: false}\ncvdd: {priors: [60.5, 40, 60.5]}\nteach: {lr: 2.5e-3, optimiser: adamw}\n"
        "eval:\n  protocols:\n    - p1\n    - p1_classic\n",
        &c));
    ck_assert_str_eq(c.name, "a-b.c");
    ck_assert(c.seed == INT64_MAX);
    ck_assert_int_eq(c.set.ipc.n, 3);
    ck_assert_int_eq(c.set.ipc.v[2], 50);
    ck_assert_int_eq(c.metrics.k.n, 1);
    ck_assert_int_eq(c.metrics.k.v[0], 3);
    ck_assert(!c.metrics.enabled);
    rt_assert_near(c.teach.lr, 2.5e-3, 0, 0);
    ck_assert_str_eq(c.teach.optimiser, "adamw");
    ck_assert_str_eq(c.eval.protocols.v[0], "p1");
    rt_assert_near(c.data.mean[0], 0.1, 0, 0);
    ck_assert_int_eq(c.cvdd.priors.n, 3);
    rt_assert_near(c.cvdd.priors.v[2], 60.5, 0, 0);
    rt_config_fini(&c);
}
END_TEST

static const struct bad {
    const char *text, *message; /* message: what rt_error_what must contain, position included */
    const char *fix;            /* what rt_error_remedy must contain, or NULL */
} bad[] = {
    {"", "x.yaml:1:1: the config is empty", "version: 1"},
    {"# only a comment\n", "x.yaml:1:1: the config is empty", NULL},
    {"---\n", "x.yaml:2:1: a config is a map", NULL},
    {"hello\n", "x.yaml:1:1: a config is a map of sections, got a single value", NULL},
    {"- version\n- 1\n", "x.yaml:1:1: a config is a map of sections, got a list", NULL},
    {"name: x\n", "x.yaml:1:1: `version` is missing", "version: 1"},
    {"version: 2\n", "x.yaml:1:10: `version` is out of range: 2", "between 1 and 1"},
    {"version: '1'\n", "x.yaml:1:10: `version` must be an integer, got the string \"1\"", NULL},
    {"version: 1\nversion: 1\n", "x.yaml:2:1: duplicate key `version`, first given at line 1", NULL},
    {"version: 1\nteach:\n  lr: 0.1\n  lr: 0.2\n", "x.yaml:4:3: duplicate key `teach.lr`, first given at line 3", NULL},
    {"version: 1\nteach: {lr: 0.1}\nteach: {lr: 0.1}\n", "x.yaml:3:1: duplicate key `teach`", NULL},
    {"version: 1\nteach:\n  epocs: 3\n", "x.yaml:3:3: unknown key `teach.epocs`", "did you mean `teach.epochs`?"},
    {"version: 1\nteach:\n  ipc: 3\n", "x.yaml:3:3: unknown key `teach.ipc`", "did you mean `set.ipc`?"},
    {"version: 1\ntaech:\n  lr: 3\n", "x.yaml:2:1: unknown key `taech`", "did you mean `teach`?"},
    {"version: 1\nteach.lr: 3\n", "x.yaml:2:1: unknown key `teach.lr`",
     "nest it: put `lr:` below the section `teach:`"},
    {"version: 1\nteach:\n  zzzzzzzz: 3\n", "x.yaml:3:3: unknown key `teach.zzzzzzzz`", "keys of teach: epochs, batch"},
    {"version: 1\n<<: {a: 1}\n", "x.yaml:2:1: unknown key `<<`", NULL},
    {"version: 1\n? [a]\n: b\n", "x.yaml:2:3: a key must be a name, got a list", NULL},
    {"version: 1\nteach: 5\n", "x.yaml:2:8: section `teach` must be a map of keys, got a single value", NULL},
    {"version: 1\nteach:\n", "x.yaml:2:7: section `teach` must be a map of keys, got nothing", NULL},
    {"version: 1\nteach: [1]\n", "x.yaml:2:8: section `teach` must be a map of keys, got a list", NULL},
    {"version: 1\nteach: {epochs: 5x}\n", "x.yaml:2:17: `teach.epochs` must be an integer, got `5x`", "default 20"},
    {"version: 1\nteach: {epochs: 3.7}\n", "x.yaml:2:17: `teach.epochs` must be an integer, got `3.7`", NULL},
    {"version: 1\nteach: {epochs: 1e3}\n", "x.yaml:2:17: `teach.epochs` must be an integer, got `1e3`", NULL},
    {"version: 1\nteach: {epochs: 010}\n", "x.yaml:2:17: `teach.epochs` must be an integer, got `010`", NULL},
    {"version: 1\nteach: {epochs: 0x10}\n", "x.yaml:2:17: `teach.epochs` must be an integer, got `0x10`", NULL},
    {"version: 1\nteach: {epochs: 1_0}\n", "x.yaml:2:17: `teach.epochs` must be an integer, got `1_0`", NULL},
    {"version: 1\nteach: {epochs: 0}\n", "x.yaml:2:17: `teach.epochs` is out of range: 0", "between 1 and 100000"},
    {"version: 1\nteach: {epochs: -5}\n", "x.yaml:2:17: `teach.epochs` is out of range: -5", NULL},
    {"version: 1\nseed: 9223372036854775808\n", "x.yaml:2:7: `seed` is out of range: 9223372036854775808", NULL},
    {"version: 1\nteach: {epochs: }\n", "x.yaml:2:17: `teach.epochs` has no value, expected an integer", NULL},
    {"version: 1\nteach: {epochs: [1]}\n", "x.yaml:2:17: `teach.epochs` must be a single value, got a list", NULL},
    {"version: 1\nteach: {epochs: {a: 1}}\n", "x.yaml:2:17: `teach.epochs` must be a single value, got a map", NULL},
    {"version: 1\nteach: {lr: nan}\n", "x.yaml:2:13: `teach.lr` must be a number, got `nan`", NULL},
    {"version: 1\nteach: {lr: .inf}\n", "x.yaml:2:13: `teach.lr` must be a number, got `.inf`", NULL},
    {"version: 1\nteach: {lr: 1e999}\n", "x.yaml:2:13: `teach.lr` is out of range: 1e999", NULL},
    {"version: 1\nteach: {lr: -1}\n", "x.yaml:2:13: `teach.lr` is out of range: -1", NULL},
    {"version: 1\nteach: {lr: 1.}\n", "x.yaml:2:13: `teach.lr` must be a number, got `1.`", NULL},
    {"version: 1\nteach: {lr: 0.1 # c\n", "not YAML", NULL},
    {"version: 1\nteach: {nesterov: yes}\n", "x.yaml:2:19: `teach.nesterov` must be true or false, got `yes`", NULL},
    {"version: 1\nteach: {nesterov: \"true\"}\n", "x.yaml:2:19: `teach.nesterov` must be true or false", NULL},
    {"version: 1\nteach: {nesterov: 1}\n", "x.yaml:2:19: `teach.nesterov` must be true or false, got `1`", NULL},
    {"version: 1\nteach: {optimiser: sdg}\n", "x.yaml:2:20: `teach.optimiser` cannot be `sdg`",
     "did you mean `sgd`? choices: sgd, adam, adamw"},
    {"version: 1\nnetwork: {arch: transformer}\n", "x.yaml:2:17: `network.arch` cannot be `transformer`",
     "choices: convnet, mlp, resnet18, resnet34, resnet50"},
    {"version: 1\nmethods: {names: [dm, random, dm]}\n", "x.yaml:2:31: `methods.names` lists `dm` twice", NULL},
    {"version: 1\nmethods: {names: []}\n", "x.yaml:2:18: `methods.names` is an empty list", NULL},
    {"version: 1\nset: {ipc: [1, [2]]}\n", "x.yaml:2:16: an entry of `set.ipc` must be a single value, got a list",
     NULL},
    {"version: 1\nset: {ipc: [1, 1]}\n", "x.yaml:2:16: `set.ipc` lists 1 twice", NULL},
    {"version: 1\nset: {ipc: [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}\n", "`set.ipc` has more than 16 entries",
     NULL},
    {"version: 1\nset: {ipc: {a: 1}}\n", "x.yaml:2:12: `set.ipc` must be a list, got a map", NULL},
    {"version: 1\ncvdd: {priors: [1, 101]}\n", "x.yaml:2:20: `cvdd.priors` is out of range: 101", "between 0 and 100"},
    {"version: 1\ncvdd: {priors: [a]}\n", "`cvdd.priors` must be a number, got `a`", NULL},
    {"version: 1\ndata: {mean: [0.1, 0.2]}\n", "`data.mean` has 2 values, expected 3", NULL},
    {"version: 1\ndata: {std: [0.1, 0, 0.2]}\n", "x.yaml:2:19: `data.std` is out of range: 0", NULL},
    {"version: 1\nname: null\n", "x.yaml:2:7: `name` must be a string, got `null`", "quote it"},
    {"version: 1\nname: no\n", "x.yaml:2:7: `name` must be a string, got `no`", "quote it"},
    {"version: 1\nname:\n", "`name` has no value, expected a string", NULL},
    {"version: 1\nname: a/b\ndata: {train: t}\n", "x.yaml:2:7: `name` becomes a folder and cannot be `a/b`", NULL},
    {"version: 1\nname: |\n  two\n  lines\n", "x.yaml:2:7: `name` holds control characters", NULL},
    {"version: 1\nname: \"a\\0b\"\n", "x.yaml:2:7: `name` holds control characters", NULL},
    {"version: 1\nname: &n x\n", "x.yaml:2:7: YAML anchors and aliases are not supported (`n`)", NULL},
    {"version: 1\nname: *n\n", "x.yaml:2:7: YAML anchors and aliases are not supported (`n`)", NULL},
    {"version: 1\nname: !!str x\n", "x.yaml:2:7: YAML tags are not supported", NULL},
    {"version: 1\nteach: &t {lr: 1}\n", "x.yaml:2:8: YAML anchors and aliases are not supported (`t`)", NULL},
    {"%YAML 1.1\n---\nversion: 1\n", "YAML directives are not supported", NULL},
    {"version: 1\n---\nversion: 1\n", "x.yaml:2:1: a second YAML document", "---"},
    {"version: 1\nteach:\n\tlr: 1\n", "x.yaml:3:1: not YAML", NULL},
    {"version: 1\n  name: x\n", "x.yaml:1:10: `version` must be an integer, got `1 name`", NULL},
    {"version: 1\nset: {ipc: [1\n", "x.yaml:3:1: not YAML", NULL},
    {"version: 1\nname: \xff\xfe\n", "x.yaml:2:7: not YAML", NULL},
    {"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "x.yaml:1:1: a config is a map of sections, got a list", NULL},
    {"version: 1\ndata: {train: t, resize: 16, size: 32}\n",
     "x.yaml:2:26: `data.resize` is 16, less than the centre crop of 32", NULL},
    {"version: 1\ndata: {train: t, preset: tv3}\n", "x.yaml:2:26: `data.preset` cannot be `tv3`", "did you mean `tv1`?"},
    {"version: 1\ndata: {train: t, preset: tv2, resize: 256}\n",
     "x.yaml:2:39: `data.resize` is not what preset tv2 has for 224 pixels: 232", "leave `data.resize` out"},
    {"version: 1\ndata: {filter: bilinear, train: t, preset: timm-a}\n", "x.yaml:2:16: `data.filter` is not what preset timm-a has",
     "bicubic"},
    {"version: 1\ndata: {train: t, preset: rded, mean: [0.4914, 0.4822, 0.4465]}\n", "x.yaml:2:38: `data.mean` is not what preset rded has", NULL},
    {"version: 1\ndata: {train: t, preset: rded, std: [0.2023, 0.1994, 0.2010]}\n", "x.yaml:2:37: `data.std` is not what preset rded has", NULL},
    {"version: 1\ndata: {train: t, preset: rded, size: 20}\n", "x.yaml:2:38: preset rded has no view of 20 pixels", "none"},
    {"version: 1\ndata: {kind: wds}\n", "x.yaml:1:1: `data.train` is not given", "kind wds"},
    {"version: 1\ndata: {train: \"a,,b\"}\n", "x.yaml:2:15: `data.train` has an empty path between commas", NULL},
    {"version: 1\ndata: {train: t}\nnetwork: {depth: 6}\n",
     "x.yaml:3:18: `network.depth` 6 halves 32 pixels to nothing", NULL},
    {"version: 1\ndata: {train: t}\nteach: {epochs: 5, el2n_epoch: 6}\n", "x.yaml:3:32: `teach.el2n_epoch` is 6", NULL},
    {"version: 1\ndata: {train: t}\ndm: {dsa: color_crob}\n", "x.yaml:3:11: `dm.dsa` names no augmentation: `crob`",
     NULL},
    {"version: 1\ndata: {train: t}\ndsa: {strategy: \"\"}\n", "x.yaml:3:17: `dsa.strategy` names no augmentation: ``",
     "none"},
};

START_TEST(malformed_configs_are_refused)
{
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        rt_config c;
        memset(&c, 0x5A, sizeof c);
        rt_config before = c;
        rt_status st = parse(bad[i].text, &c);
        if (st != RT_ERR_CONFIG)
            ck_abort_msg("config %zu accepted or %s: %s\n%s", i, rt_status_name(st), rt_error_what(), bad[i].text);
        if (!strstr(rt_error_what(), bad[i].message))
            ck_abort_msg("config %zu:\n%s\nsays: %s\nwant: %s", i, bad[i].text, rt_error_what(), bad[i].message);
        if (bad[i].fix && !strstr(rt_error_remedy(), bad[i].fix))
            ck_abort_msg("config %zu:\n%s\nfix: %s\nwant: %s", i, bad[i].text, rt_error_remedy(), bad[i].fix);
        ck_assert_msg(!memcmp(&before, &c, sizeof c), "config %zu touched the output", i);
    }
}
END_TEST

START_TEST(nesting_does_not_eat_the_stack)
{
    enum { N = 200000 };
    char *deep = rt_malloc(N + 32);
    ck_assert_ptr_nonnull(deep);
    int n = sprintf(deep, "version: 1\nname: ");
    memset(deep + n, '[', N);
    deep[n + N] = 0;
    rt_config c = {0};
    rt_fails(parse(deep, &c), RT_ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(rt_error_what(), "x.yaml:2:7: `name` must be a single value, got a list"));
    rt_free(deep);
}
END_TEST

START_TEST(overrides_win_in_order)
{
    rt_config c = {0};
    const char *const set[] = {
        "teach.lr=0.5",     "teach.lr=0.25", "set.ipc=1,50",         "metrics.k=[3, 7]",
        "methods.names=dm", "name=second",   "backend.strict=false", "data.train=/a/{0..3}.tar,/b"};
    rt_ok(rt_config_parse("x.yaml", minimal, strlen(minimal), set, 8, &c));
    rt_assert_near(c.teach.lr, 0.25, 0, 0);
    ck_assert_int_eq(c.set.ipc.n, 2);
    ck_assert_int_eq(c.set.ipc.v[1], 50);
    ck_assert_int_eq(c.metrics.k.v[1], 7);
    ck_assert_int_eq(c.methods.names.n, 1);
    ck_assert_str_eq(c.name, "second");
    ck_assert(!c.backend.strict);
    ck_assert_str_eq(c.data.train, "/a/{0..3}.tar,/b");
    rt_config_fini(&c);
}
END_TEST

static const struct bad_set {
    const char *arg, *message, *fix;
} bad_set[] = {
    {"teach.lr", "--set teach.lr: expected section.key=value", "--set teach.epochs=30"},
    {"=3", "--set =3: expected section.key=value", NULL},
    {"teach.epocs=3", "--set teach.epocs=3: unknown key `teach.epocs`", "did you mean `teach.epochs`?"},
    {"taech.lr=3", "--set taech.lr=3: unknown key `taech.lr`", NULL},
    {"epochs=3", "--set epochs=3: unknown key `epochs`", "did you mean `teach.epochs`?"},
    {"teach=3", "--set teach=3: `teach` is a section", "teach.key=value"},
    {"teach.epochs=3x", "--set teach.epochs=3x: `teach.epochs` must be an integer, got `3x`", NULL},
    {"teach.epochs=", "`teach.epochs` has no value", NULL},
    {"teach.epochs= 3", "must be an integer", NULL},
    {"teach.lr=1e9", "--set teach.lr=1e9: `teach.lr` is out of range", "between"},
    {"network.arch=vgg", "--set network.arch=vgg: `network.arch` cannot be `vgg`", "choices:"},
    {"set.ipc=", "`set.ipc` has no value", NULL},
    {"set.ipc=[]", "`set.ipc` has no value", NULL},
    {"set.ipc=1,,2", "`set.ipc` has no value", NULL},
    {"set.ipc=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", "more than 16 entries", NULL},
    {"name=\xff", "`name` holds control characters or is not UTF-8", NULL},
    {"name=\xc0\x80", "`name` holds control characters or is not UTF-8", NULL},
    {"name=\xed\xa0\x80", "`name` holds control characters or is not UTF-8", NULL},
    {"dm.dsa=colour", "--set dm.dsa=colour: `dm.dsa` names no augmentation: `colour`", NULL},
    {"data.train=", "--set data.train=: `data.train` is not given", NULL},
};

START_TEST(malformed_overrides_are_refused)
{
    for (size_t i = 0; i < sizeof bad_set / sizeof *bad_set; i++) {
        rt_config c = {0};
        rt_status st = rt_config_parse("x.yaml", minimal, strlen(minimal), &bad_set[i].arg, 1, &c);
        if (st != RT_ERR_CONFIG) ck_abort_msg("--set %s: %s: %s", bad_set[i].arg, rt_status_name(st), rt_error_what());
        if (!strstr(rt_error_what(), bad_set[i].message))
            ck_abort_msg("--set %s says: %s\nwant: %s", bad_set[i].arg, rt_error_what(), bad_set[i].message);
        if (bad_set[i].fix && !strstr(rt_error_remedy(), bad_set[i].fix))
            ck_abort_msg("--set %s fix: %s\nwant: %s", bad_set[i].arg, rt_error_remedy(), bad_set[i].fix);
    }
}
END_TEST

START_TEST(echo_is_a_fixed_point)
{
    static const char text[] = "version: 1\nname: n\nseed: 7\ndata: {train: \"we \\\"quote\\\" back\\\\slash # and: "
                               "{\", test: \"\xc3\xa9\", mean: [0.1, 0.30000000000000004, 1e-5]}\n"
                               "teach: {lr: 1e-12, weight_decay: 0.0001}\ncvdd: {priors: [0.1, 0.1, 3]}\nset: {ipc: [50, 1]}\n";
    rt_config a = {0}, b = {0};
    char *ya = NULL, *yb = NULL, *ca = NULL, *cb = NULL;
    rt_ok(parse(text, &a));
    rt_ok(rt_config_yaml(&a, &ya));
    rt_ok(rt_config_parse("/elsewhere.yaml", ya, strlen(ya), NULL, 0, &b));
    rt_ok(rt_config_yaml(&b, &yb));
    ck_assert_str_eq(ya, yb);
    rt_ok(rt_config_canonical(&a, NULL, 0, &ca));
    rt_ok(rt_config_canonical(&b, NULL, 0, &cb));
    ck_assert_str_eq(ca, cb);
    ck_assert(b.data.mean[1] == 0.30000000000000004);
    ck_assert_str_eq(a.data.train, b.data.train);
    ck_assert_ptr_nonnull(strstr(a.data.train, "we \"quote\" back\\slash # and: {"));
    rt_free(ya), rt_free(yb), rt_free(ca), rt_free(cb);
    rt_config_fini(&a);
    rt_config_fini(&b);
}
END_TEST

START_TEST(canonical_text_is_per_section)
{
    rt_config c = {0};
    const char *const teach[] = {"", "teach"}, *const unknown[] = {"teech"};
    char *before = NULL, *after = NULL;
    rt_ok(parse(minimal, &c));
    rt_ok(rt_config_canonical(&c, teach, 2, &before));
    ck_assert_ptr_nonnull(strstr(before, "version=1\nname=\"retort\"\nseed=0\nteach.epochs=20\n"));
    ck_assert_ptr_null(strstr(before, "eval."));
    c.eval.seeds = 99;
    rt_ok(rt_config_canonical(&c, teach, 2, &after));
    ck_assert_str_eq(before, after);
    rt_free(after);
    c.teach.lr = 0.02;
    rt_ok(rt_config_canonical(&c, teach, 2, &after));
    ck_assert_str_ne(before, after);
    rt_free(after);
    rt_ok(rt_config_canonical(&c, NULL, 0, &after));
    ck_assert_ptr_nonnull(strstr(after, "eval.seeds=99\n"));
    rt_free(after), rt_free(before);
    rt_fails(rt_config_canonical(&c, unknown, 1, &after), RT_ERR_ARG);
    rt_config_fini(&c);
}
END_TEST

START_TEST(paths_belong_to_the_file)
{
    rt_config c = {0};
    char folder[] = "/tmp/rt-config-XXXXXX", path[PATH_MAX], want[PATH_MAX + 16], cwd[PATH_MAX];
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/deep", folder);
    rt_ok(rt_fs_mkdirs(path));
    snprintf(path, sizeof path, "%s/deep/c.yaml", folder);
    static const char text[] =
        "version: 1\nname: n\ndata: {train: \"../a/s-{00..01}.tar,b\", test: /abs/t/, classes: ./c.txt}\n";
    rt_ok(rt_fs_write_atomic(path, text, strlen(text)));
    const char *const set[] = {"data.keys_train=keys.txt"};
    rt_ok(rt_config_load(path, set, 1, &c));
    snprintf(want, sizeof want, "%s/a/s-{00..01}.tar,%s/deep/b", folder, folder);
    ck_assert_str_eq(c.data.train, want);
    ck_assert_str_eq(c.data.test, "/abs/t");
    snprintf(want, sizeof want, "%s/deep/c.txt", folder);
    ck_assert_str_eq(c.data.classes, want);
    snprintf(want, sizeof want, "%s/deep/runs/n", folder);
    ck_assert_str_eq(c.run.dir, want);
    ck_assert_ptr_nonnull(getcwd(cwd, sizeof cwd));
    snprintf(want, sizeof want, "%s/keys.txt", cwd);
    ck_assert_str_eq(c.data.keys_train, want); /* a path typed in a command belongs to the working directory */
    rt_config_fini(&c);

    static const char rootly[] = "version: 1\ndata: {train: ../../x, test: .}";
    rt_ok(rt_config_parse("/c.yaml", rootly, strlen(rootly), NULL, 0, &c));
    ck_assert_str_eq(c.data.train, "/x");
    ck_assert_str_eq(c.data.test, "/");
    ck_assert_str_eq(c.run.dir, "/runs/retort");
    rt_config_fini(&c);
    rt_ok(rt_fs_remove_tree(folder));
}
END_TEST

START_TEST(files_that_are_not_there)
{
    rt_config c = {0};
    rt_fails(rt_config_load("/nonexistent/c.yaml", NULL, 0, &c), RT_ERR_MISSING);
    rt_fails(rt_config_load("/tmp", NULL, 0, &c), RT_ERR_CONFIG);
}
END_TEST

START_TEST(shipped_configs_load)
{
    char dir[PATH_MAX], path[PATH_MAX + 64];
    char **names = NULL;
    size_t n = 0;
    const char *root = getenv("RT_SOURCE_DIR");
    ck_assert_msg(root, "RT_SOURCE_DIR is not set: run under ctest");
    snprintf(dir, sizeof dir, "%s/configs", root);
    rt_ok(rt_fs_list(dir, &names, &n));
    ck_assert_uint_ge(n, 3);
    for (size_t i = 0; i < n; i++) {
        rt_config c = {0};
        snprintf(path, sizeof path, "%s/%.60s", dir, names[i]);
        if (!strchr(names[i], '.')) continue; /* a folder */
        rt_ok(rt_config_load(path, NULL, 0, &c));
        ck_assert_msg(!strncmp(names[i], c.name, strlen(c.name)), "%s holds the run %s", names[i], c.name);
        rt_config_fini(&c);
    }
    rt_fs_list_free(names, n);
}
END_TEST

static bool lists(const rt_name_list *l, const char *name)
{
    for (int32_t i = 0; i < l->n; i++)
        if (!strcmp(l->v[i], name)) return true;
    return false;
}

/* Every recipe names its figure, where it stands and the protocol that gives it; a shortened one says what is shortened and
 * is held against random selection. */
START_TEST(recipes_are_complete)
{
    char dir[PATH_MAX], path[PATH_MAX + 64], want[80];
    char **names = NULL;
    size_t n = 0;
    const char *root = getenv("RT_SOURCE_DIR");
    ck_assert_msg(root, "RT_SOURCE_DIR is not set: run under ctest");
    snprintf(dir, sizeof dir, "%s/configs/recipes", root);
    rt_ok(rt_fs_list(dir, &names, &n));
    ck_assert_uint_ge(n, 60);
    for (size_t i = 0; i < n; i++) {
        rt_config c = {0};
        snprintf(path, sizeof path, "%s/%.60s", dir, names[i]);
        rt_ok(rt_config_load(path, NULL, 0, &c));
        snprintf(want, sizeof want, "%.64s.yaml", c.name);
        ck_assert_str_eq(names[i], want);
        snprintf(want, sizeof want, "-ipc%lld", (long long)c.set.ipc.v[0]);
        ck_assert_msg(strstr(names[i], want) && c.set.ipc.n == 1, "%s constructs IPC %s", names[i], want);
        ck_assert_msg(c.repro.published > 0 && c.repro.tolerance > 0 && c.repro.source[0], "%s: figure without a source", names[i]);
        ck_assert_msg(lists(&c.eval.protocols, c.repro.protocol), "%s: %s is not run", names[i], c.repro.protocol);
        bool cpu = strstr(names[i], "-cpu.") != NULL;
        ck_assert_msg(cpu == (c.repro.shortened[0] != 0), "%s: shortened \"%s\"", names[i], c.repro.shortened);
        ck_assert_msg(!cpu || (c.repro.above_random >= 3 && lists(&c.methods.names, "random")), "%s: no gate of its own", names[i]);
        ck_assert_int_eq(c.methods.names.n, cpu ? 2 : 1);
        bool best = !strcmp(c.repro.report, "best"), looked = c.eval.check_every > 0 || c.methods.snapshots.v[0] > 0;
        ck_assert_msg(!best || looked, "%s: the best of nothing", names[i]);
        ck_assert_msg(!c.metrics.enabled && !c.eval.full_data, "%s: trains a teacher that no figure needs", names[i]);
        rt_config_fini(&c);
    }
    rt_fs_list_free(names, n);
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    rt_config c;
    int failures = 0;
    const char *const set[] = {"data.test=a,b"};
    for (uint64_t n = 1; n < 400; n++) {
        memset(&c, 0, sizeof c);
        rt_alloc_fail_at(n, 0);
        rt_status st = rt_config_parse("x.yaml", minimal, strlen(minimal), set, 1, &c);
        rt_alloc_fail_at(0, 0);
        if (st == RT_OK) {
            rt_config_fini(&c);
            ck_assert_int_gt(failures, 10);
            return;
        }
        ck_assert_int_eq(st, RT_ERR_NOMEM);
        failures++;
    }
    ck_abort_msg("never succeeded");
}
END_TEST

START_TEST(help_names_every_key)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    rt_ok(rt_config_help(f));
    fclose(f);
    ck_assert_ptr_nonnull(strstr(text, "teach:"));
    ck_assert_ptr_nonnull(strstr(text, "el2n_epoch: 0\n      integer 0 to 100000; EL2N scores"));
    ck_assert_ptr_nonnull(strstr(text, "list of random | herding"));
    free(text);
}
END_TEST

START_TEST(presets_stand_for_keys)
{
    static const struct {
        const char *text, *filter;
        int size, resize;
    } row[] = {
        {"preset: tv1", "bilinear", 224, 256},        {"preset: tv2", "bilinear", 224, 232},
        {"preset: timm-a", "bicubic", 224, 235},      {"preset: rded", "bilinear", 224, 256},
        {"preset: tv1, size: 32", "bilinear", 32, 36}, {"preset: rded, size: 32", "bilinear", 32, 32},
        {"size: 64, preset: rded", "bilinear", 64, 72}, {"preset: timm-a, size: 288", "bicubic", 288, 303},
        {"preset: none", "bilinear", 32, 0},          {"preset: tv2, resize: 232, filter: bilinear", "bilinear", 224, 232},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        rt_config c = {0}, again = {0};
        char text[160], *yaml = NULL;
        snprintf(text, sizeof text, "version: 1\ndata: {train: t, %s}\n", row[i].text);
        rt_ok(parse(text, &c));
        ck_assert_int_eq(c.data.size, row[i].size);
        ck_assert_int_eq(c.data.resize, row[i].resize);
        ck_assert_str_eq(c.data.filter, row[i].filter);
        rt_assert_near(c.data.std[2], 0.225, 0, 0);
        rt_ok(rt_config_yaml(&c, &yaml)); /* which gives preset and keys: they agree */
        rt_ok(parse(yaml, &again));
        ck_assert_int_eq(again.data.resize, row[i].resize);
        rt_free(yaml);
        rt_config_fini(&c);
        rt_config_fini(&again);
    }
}
END_TEST

static const rt_test tests[] = {
    {"defaults are in range", defaults_are_in_range},
    {"values are read", values_are_read},
    {"malformed configs are refused", malformed_configs_are_refused},
    {"nesting does not eat the stack", nesting_does_not_eat_the_stack},
    {"overrides win in order", overrides_win_in_order},
    {"malformed overrides are refused", malformed_overrides_are_refused},
    {"echo is a fixed point", echo_is_a_fixed_point},
    {"canonical text is per section", canonical_text_is_per_section},
    {"paths belong to the file", paths_belong_to_the_file},
    {"files that are not there", files_that_are_not_there},
    {"shipped configs load", shipped_configs_load},
    {"recipes are complete", recipes_are_complete},
    {"every allocation may fail", every_allocation_may_fail},
    {"presets stand for keys", presets_stand_for_keys},
    {"help names every key", help_names_every_key},
};
RT_SUITE("config", tests)
