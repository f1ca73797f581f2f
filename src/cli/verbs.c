/* The one list of verbs, and the help made from it. */
#include <string.h>

#include "cli/cli.h"

static const cli_verb verbs[] = {
    {"index", "CONFIG", "scan the images: counts, classes, hash",
     "Reads the data set's index (not its pixels) and commits the class list, the counts and the hash that every "
     "later\n"
     "artefact carries.\n\n"
     "  retort index configs/cifar10-ipc10-cpu.yaml\n",
     CLI_CONFIG | CLI_SET | CLI_FORCE, 0, 0, cmd_index},
    {"teach", "CONFIG", "train networks on the real images",
     "Trains teach.runs networks and commits weights, features and EL2N scores: what the coresets select by.\n\n"
     "  retort teach configs/cifar10-ipc10-cpu.yaml --set teach.epochs=30\n",
     CLI_CONFIG | CLI_SET | CLI_FORCE, 0, 0, cmd_teach},
    {"build", "CONFIG", "construct the sets",
     "Constructs every set of the grid: methods.names x set.ipc x methods.set_seeds. Finished sets are skipped.\n\n"
     "  retort build configs/cifar10-ipc10-cpu.yaml --set methods.names=random,dm --set set.ipc=1,10\n",
     CLI_CONFIG | CLI_SET | CLI_FORCE, 0, 0, cmd_build},
    {"eval", "CONFIG [SET...]", "train students on each set",
     "Trains eval.seeds students per set, protocol and architecture from scratch; the last epoch's accuracy counts.\n"
     "SET: folders of committed sets to use instead of the run's own.\n\n"
     "  retort eval configs/cifar10-ipc10-cpu.yaml --set eval.students=convnet,mlp\n",
     CLI_CONFIG | CLI_SET | CLI_FORCE, 0, CLI_MAX_POS, cmd_eval},
    {"measure", "CONFIG [SET...]", "coverage, diversity and distances of each set",
     "Measures each set against the real images in the features of the teacher.\n"
     "SET: folders of committed sets to use instead of the run's own.\n\n"
     "  retort measure runs/cifar10-ipc10-cpu\n",
     CLI_CONFIG | CLI_SET | CLI_FORCE, 0, CLI_MAX_POS, cmd_measure},
    {"import", "CONFIG SOURCE", "a set that somebody else distilled",
     "Reads a published set and commits it as one of ours, for `eval` and `measure`. SOURCE: class folders as SRe2L, CDA, "
     "DELT,\n"
     "CV-DD (new000 ...), RDED (00000 ...) or Minimax, D4M, D3HR (names of classes) write them, or a .safetensors file with\n"
     "images and labels. Classes are checked against the config's; a teacher of the run says whether it recognises them.\n\n"
     "  retort import configs/imagenette-ipc10-cpu.yaml syn/sre2l --method sre2l-released\n"
     "  retort eval configs/imagenette-ipc10-cpu.yaml runs/imagenette-ipc10-cpu/imported/sre2l-released-ipc10\n",
     CLI_CONFIG | CLI_SET | CLI_FORCE | CLI_OUT | CLI_IMPORT, 1, 1, cmd_import},
    {"report", "RUN", "table, page and exports of what is done",
     "Writes RUN/report: index.html (self-contained), CSV and JSONL of every result. RUN: a run folder or its "
     "config.\n\n"
     "  retort report runs/demo\n",
     CLI_CONFIG | CLI_SET, 0, 0, cmd_report},
    {"bench", "CONFIG", "the whole grid: index to report",
     "Runs index, teach, build, eval, measure and report; skips what is done, resumes what was interrupted.\n\n"
     "  retort bench configs/cifar10-ipc10-cpu.yaml\n",
     CLI_CONFIG | CLI_SET | CLI_FORCE, 0, 0, cmd_bench},
    {"repro", "RECIPE", "a recipe's figure against the published one",
     "Runs index, teach, build and eval, then compares by the paper's own reporting rule: the figure, the published "
     "one, the\n"
     "tolerance, random selection, cost, what is shortened and where the method deviates. Exit 3 when a gate fails.\n"
     "RECIPE: a config with a section `repro`, as in configs/recipes; finished stages are skipped, interrupted ones "
     "resume.\n\n"
     "  retort repro configs/recipes/dm-cifar10-ipc10-cpu.yaml\n",
     CLI_CONFIG | CLI_SET | CLI_FORCE, 0, 0, cmd_repro},
    {"plan", "CONFIG", "what a run needs, before it starts",
     "Prints phases, FLOPs, time by a short measured run, peak memory and disk. Exit 3 when something does not fit.\n\n"
     "  retort plan configs/cifar10-ipc10-cpu.yaml --set set.ipc=50\n",
     CLI_CONFIG | CLI_SET, 0, 0, cmd_plan},
    {"show", "SET", "the images of a set as one PNG",
     "Writes a grid, one row per class. --scale sd stretches mean +- 2.5 sd to the full range, as papers show "
     "synthetic\n"
     "images.\n\n"
     "  retort show runs/demo/sets/dm-ipc10-s0 --zoom 3 --scale sd --out dm.png\n",
     CLI_OUT | CLI_GRID | CLI_FORCE, 1, 1, cmd_show},
    {"verify", "PATH", "check artefacts byte by byte",
     "Checks every artefact at or below PATH against the sizes and SHA-256 sums in its manifest.\n\n"
     "  retort verify runs/demo\n",
     CLI_JSON, 1, 1, cmd_verify},
    {"doctor", "[FOLDER]", "check this machine",
     "Green, yellow and red rows with a fix for each: cores, libraries, arithmetic against the float64 reference, disk "
     "of\n"
     "FOLDER (default: the working directory), decoding speed, devices. Exit 3: yellow; 69: red.\n\n"
     "  retort doctor --json\n",
     CLI_JSON, 0, 1, cmd_doctor},
    {"demo", "", "the whole comparison on generated images, in minutes",
     "Generates ten classes of images, runs `bench` on them in runs/demo and prints the table.\n\n"
     "  retort demo --quick\n",
     CLI_SET | CLI_FORCE, 0, 0, cmd_demo},
};

const cli_verb *cli_verb_at(int i)
{
    return i >= 0 && (size_t)i < sizeof verbs / sizeof *verbs ? &verbs[i] : NULL;
}

const cli_verb *cli_verb_find(const char *name)
{
    for (int i = 0; cli_verb_at(i); i++)
        if (!strcmp(verbs[i].name, name)) return &verbs[i];
    return NULL;
}

static const struct {
    unsigned mask;
    const char *text;
} flag_help[] = {
    {CLI_CONFIG,
     "  --config FILE      the config (also as first argument; a run folder stands for its resolved.yaml)\n"},
    {CLI_SET, "  --set KEY=VALUE    override one key of the config; repeatable\n"
              "  --quick            smallest sizes, in <run.dir>-quick: does it run?\n"},
    {CLI_FORCE, "  --force            redo or overwrite what is already there\n"},
    {CLI_OUT, "  --out PATH         where to write (show: <set>.png here; import: <run.dir>/imported/<method>-ipc<n>)\n"},
    {CLI_IMPORT,
     "  --method NAME      what the set is called in results\n"
     "  --map FILE         lines `folder class` that say what each folder holds\n"
     "  --ipc N            take the first N images of every class\n"
     "  --space S          float tensors: normalised (by the config's mean and std) or unit (in [0,1])\n"
     "  --logits           soft labels of a tensor file are logits\n"},
    {CLI_GRID, "  --zoom N           enlarge each pixel N times (default 2)\n"
               "  --scale stored|sd  pixels as stored, or mean +- 2.5 sd stretched\n"
               "  --classes N        at most N classes, evenly spread\n"
               "  --images N         at most N images per class\n"},
    {CLI_JSON, "  --json             machine-readable output\n"},
};

rt_status cli_help(const char *name, FILE *f)
{
    if (!name) {
        fprintf(f, "retort: is a condensed training set worth what it cost to construct?\n\n"
                   "usage: retort VERB [CONFIG] [--set key=value]...\n\n");
        for (int i = 0; cli_verb_at(i); i++)
            fprintf(f, "  %-8s %-16s %s\n", verbs[i].name, verbs[i].args, verbs[i].summary);
        fprintf(f, "  %-8s %-16s %s\n", "help", "[VERB|config]", "this page, a verb, or every key of a config");
        fprintf(f,
                "\nStart with `retort doctor`, then `retort demo`. `retort --version` prints the version.\n"
                "Exit codes: 0 done, 3 a limit was missed, 64 usage, 65 bad data, 66 input missing, 69 device or\n"
                "library unavailable, 70 bug, 71 memory, 73 locked, 74 I/O, 75 stopped and resumable, 77 permission,\n"
                "78 config, 79 numeric failure.\n");
        return RT_OK;
    }
    if (!strcmp(name, "config")) return rt_config_help(f);
    const cli_verb *v = cli_verb_find(name);
    if (!v) return rt_error_fix(RT_RAISE(RT_ERR_USAGE, "no help on `%.60s`", name), "`retort help` lists the verbs");
    fprintf(f, "usage: retort %s%s%s [flags]\n\n%s\n", v->name, v->args[0] ? " " : "", v->args, v->about);
    for (size_t i = 0; i < sizeof flag_help / sizeof *flag_help; i++)
        if (v->flags & flag_help[i].mask) fputs(flag_help[i].text, f);
    fprintf(f, "  --help             this page\n");
    return RT_OK;
}
