# configs/demo.yaml as a C string, so that `retort demo` needs no file beside the program.
file(READ ${INPUT} text)
string(REPLACE "\\" "\\\\" text "${text}")
string(REPLACE "\"" "\\\"" text "${text}")
string(REPLACE "\n" "\\n\"\n    \"" text "${text}")
file(WRITE ${OUTPUT} "/* Written by the build from configs/demo.yaml. */\nstatic const char rt_demo_config[] =\n    \"${text}\";\n")
