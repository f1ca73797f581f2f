# A text file as a C string: cmake -DINPUT=file -DOUTPUT=header -DNAME=identifier -P embed.cmake
file(READ ${INPUT} text)
string(REPLACE "\\" "\\\\" text "${text}")
string(REPLACE "\"" "\\\"" text "${text}")
string(REPLACE "\n" "\\n\"\n    \"" text "${text}")
get_filename_component(name ${INPUT} NAME)
file(WRITE ${OUTPUT} "/* Written by the build from ${name}. */\nstatic const char ${NAME}[] =\n    \"${text}\";\n")
