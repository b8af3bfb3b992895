# The only entry point. `make help` lists the targets.

# An nginx tree with configure; Debian's nginx-dev by default. NGINX_FLAGS: further configure flags, for trees without conf_flags.
NGINX_SRC   ?= /usr/share/nginx/src
NGINX_FLAGS ?=
SHELL     := /bin/bash
comma     := ,
CXX       := g++
CLANGXX   := clang++
PYTHON    := /usr/bin/python3
B         := build
# For sanitizers: a comma list for -fsanitize=, into a B of its own; see asan.
SANITIZE  ?=
DURATION  ?= 0
PORT      ?= 0
FLEET     ?= 0
# How many processes run the tests; a file's tests run in one.
PROCESSES ?= 3

WARNINGS  := -Wall -Wextra -Werror
# nodelete: what is found when the process ends still has its names.
SANITIZE_CC := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -Og -g1,-O2 -g)
SANITIZE_LD := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -Wl$(comma)-z$(comma)nodelete)
CXXFLAGS  := -std=c++17 -O2 -g1 $(WARNINGS) -I.
LIBS      := -lhiredis -lssl -lcrypto
MODULE    := $(B)/ngx_http_experiment_module.so
CTL       := $(B)/experimentctl

PACKAGES  := g++ make nginx nginx-dev libxxhash-dev libssl-dev libboost-math-dev nlohmann-json3-dev libcli11-dev \
             libgtest-dev libbenchmark-dev clang libclang-rt-dev clang-format clang-tidy cppcheck python3 python3-pytest python3-pytest-xdist python3-xxhash python3-hypothesis \
             python3-jsonschema python3-redis libhiredis-dev redis-server redis-sentinel openssl valgrind curl procps mount
BENCH_PACKAGES := valgrind wrk

LIB_SRC   := $(wildcard bandit/*.cpp shared/*.cpp)
CTL_SRC   := $(wildcard ctl/*.cpp)
MODULE_FILES := config $(wildcard bandit/*.* shared/*.* shared/redis/*.lua ngx_module/*.*)

.PHONY: help setup module run test unit tsan asan integration soak fuzz corpus bench layers format lint clean FORCE
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## ?/  make \1\t/' | expand -t 22

setup: ## install what is missing (Debian packages), once, and say what
	@missing=$$(for p in $(PACKAGES); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	echo "setup: installing" $$missing; \
	sudo=$$([ $$(id -u) = 0 ] || echo sudo); \
	$$sudo apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$missing >/dev/null

# --- the module, by nginx's own build --------------------------------------------------------------------------------------
module: setup $(MODULE) ## build the nginx module against NGINX_SRC (default: Debian's nginx-dev)

# What nginx's configure was run for; the names of the sources and headers too, since it keeps them.
CONFIGURED := $(NGINX_SRC) $(NGINX_FLAGS) $(SANITIZE_CC) $(sort $(filter %.cpp %.h,$(MODULE_FILES)))
$(B)/ngx_src: FORCE
	@mkdir -p $(B) && echo "$(CONFIGURED)" | cmp -s - $@ || echo "$(CONFIGURED)" > $@
FORCE:

$(B)/nginx/objs/Makefile: config $(B)/ngx_src
	@rm -rf $(B)/nginx && mkdir -p $(B) && cp -rL $(NGINX_SRC) $(B)/nginx
	@if [ ! -x $(B)/nginx/configure ] && [ ! -f $(B)/nginx/auto/configure ]; then \
	  echo "module: NGINX_SRC=$(NGINX_SRC) holds no nginx tree, expected one with configure"; exit 1; fi
	@cd $(B)/nginx && NGX_CONF_FLAGS=(--with-compat --with-threads --with-http_ssl_module --with-http_v2_module $(NGINX_FLAGS)); \
	if [ -f conf_flags ]; then . ./conf_flags; fi; \
	ASAN_OPTIONS=detect_leaks=0 bash $$([ -f configure ] && echo ./configure || echo auto/configure) "$${NGX_CONF_FLAGS[@]}" --with-cc-opt="$(SANITIZE_CC) $(WARNINGS) -Wno-unused-parameter" \
	  --with-ld-opt="$(SANITIZE_LD)" \
	  --add-dynamic-module=$(CURDIR) --builddir=objs > configure.log 2>&1 || { tail -n 5 configure.log; exit 1; }

$(MODULE): $(B)/nginx/objs/Makefile $(MODULE_FILES)
	@echo "module: building $@"
	@$(MAKE) -s -C $(B)/nginx -f objs/Makefile -j2 modules > $(B)/nginx/make.log 2>&1 || { grep -E 'error|warning' $(B)/nginx/make.log; exit 1; }
	@cp $(B)/nginx/objs/ngx_http_experiment_module.so $@.new && mv $@.new $@

# --- objects of bandit, shared and ctl, by compiler; clang's are instrumented ------------------------------------------------------------------------
CLANG_CHECKS := -O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
GCC_OBJ   := $(LIB_SRC:%.cpp=$(B)/gcc/%.o)
CLANG_OBJ := $(LIB_SRC:%.cpp=$(B)/clang/%.o)
CTL_OBJ   := $(CTL_SRC:%.cpp=$(B)/gcc/%.o)

# Tests are compiled as they stand, in half the time; what they test is optimised.
$(B)/gcc/t/%.o $(B)/clang/t/%.o: OPTIMISE := -O0

$(B)/gcc/%.o: %.cpp
	@mkdir -p $(@D) && $(CXX) $(CXXFLAGS) $(OPTIMISE) -MMD -MP -c $< -o $@
$(B)/clang/%.o: %.cpp
	@mkdir -p $(@D) && $(CLANGXX) $(CXXFLAGS) $(CLANG_CHECKS) $(OPTIMISE) -MMD -MP -c $< -o $@

# Embedded by the assembler, of which the depfiles say nothing.
$(patsubst %,$(B)/%/shared/redis_library.o,gcc clang tsan): $(wildcard shared/redis/*.lua)

$(CTL): $(CTL_OBJ) $(GCC_OBJ)
	@$(CXX) -o $@ $^ $(LIBS)
$(B)/asan/experimentctl: $(CTL_SRC:%.cpp=$(B)/clang/%.o) $(CLANG_OBJ)
	@mkdir -p $(@D) && $(CLANGXX) $(CLANG_CHECKS) -o $@ $^ $(LIBS)

# The Redis link of tools is the one of unit tests, too.
REDIS_SOCKET := $(patsubst %,ctl/%.cpp,redis_socket byte_stream tls_client)

# --- tests ---------------------------------------------------------------------------------------------------------------
UNIT_SRC := $(wildcard t/unit/*/*_test.cpp)
define unit_binary # compiler, folder
$(B)/unit/$(2)-$(1): $$(patsubst %.cpp,$(B)/$(1)/%.o,$$(wildcard t/unit/$(2)/*_test.cpp) $(LIB_SRC) $(REDIS_SOCKET))
	@mkdir -p $$(@D) && $(if $(filter gcc,$(1)),$(CXX),$(CLANGXX) $(CLANG_CHECKS)) -o $$@ $$^ $(LIBS) -lgtest -lgtest_main -pthread
endef
$(foreach c,gcc clang,$(foreach f,bandit shared ctl,$(eval $(call unit_binary,$(c),$(f)))))
UNIT_BIN := $(foreach f,shared bandit ctl,$(foreach c,clang gcc,$(B)/unit/$(f)-$(c)))  # the long ones first

unit: setup ## build and run the unit tests of bandit, shared and ctl, by gcc as it is and by clang with ASan and UBSan; needs no nginx
	@$(MAKE) -s -j2 $(UNIT_BIN) corpus
	@printf '%s\n' $(UNIT_BIN) | xargs -P 2 -I TEST sh -c 'said=$$(TEST --gtest_brief=1 2>&1); failed=$$?; echo "TEST: $$said"; exit $$failed'

TSAN_SRC := t/unit/bandit/threads_test.cpp \
            $(patsubst %,t/unit/shared/%_test.cpp,threads zone zone_sync conductor rotating_filter) \
            $(filter-out shared/redis_% shared/fleet_%,$(LIB_SRC))
$(B)/tsan/%.o: %.cpp
	@mkdir -p $(@D) && $(CLANGXX) $(CXXFLAGS) -O1 -g1 -fsanitize=thread -MMD -MP -c $< -o $@
$(B)/unit/tsan: $(TSAN_SRC:%.cpp=$(B)/tsan/%.o)
	@mkdir -p $(@D) && $(CLANGXX) -fsanitize=thread -o $@ $^ $(LIBS) -lgtest -lgtest_main -pthread
tsan: setup ## run bandit and shared under ThreadSanitizer, threads standing in for workers
	@$(MAKE) -s -j2 $(B)/unit/tsan
	@./$(B)/unit/tsan --gtest_brief=1 --gtest_filter='*Threads*:ZoneSync*:Conductor*:RotatingFilter*'

FUZZ_SECONDS ?= 20
FUZZED_assignment_cookie := bandit/assignment.cpp $(patsubst %,shared/%.cpp,assignment_cookie base64url hmac_sha256 key_ring)
FUZZED_redis_reply       := shared/redis_reply.cpp
FUZZED_redis_topology    := $(patsubst %,shared/%.cpp,redis_reply redis_topology redis_url)
FUZZ := $(patsubst t/fuzz/%_fuzz.cpp,%,$(wildcard t/fuzz/*_fuzz.cpp))
.SECONDEXPANSION:
$(B)/fuzz/%: t/fuzz/%_fuzz.cpp $$(FUZZED_$$*) $(wildcard bandit/*.h shared/*.h)
	@mkdir -p $(@D) && $(CLANGXX) $(CXXFLAGS) $(CLANG_CHECKS) -fsanitize=fuzzer -o $@ $(filter %.cpp,$^) $(LIBS)
corpus: $(FUZZ:%=$(B)/fuzz/%)
	@for target in $(FUZZ); do \
	  $(B)/fuzz/$$target -runs=0 t/fuzz/corpus/$$target 2> $(B)/fuzz/$$target.log || { cat $(B)/fuzz/$$target.log; exit 1; }; done
fuzz: setup $(FUZZ:%=$(B)/fuzz/%) ## look for inputs that break a parser (FUZZ_SECONDS=20 each); new ones stay in the build folder
	@for target in $(FUZZ); do found=$(B)/fuzz/found/$$target; log=$(B)/fuzz/$$target.log; mkdir -p $$found; \
	  $(B)/fuzz/$$target -max_total_time=$(FUZZ_SECONDS) -max_len=1024 -print_final_stats=1 -artifact_prefix=$(B)/fuzz/$$target- \
	    $$found t/fuzz/corpus/$$target 2> $$log || { cat $$log; exit 1; }; \
	  echo "$$target" $$(grep -E '^stat::number_of_executed_units|^Done' $$log); done

PYTEST := $(PYTHON) -m pytest -q -p no:cacheprovider -n $(PROCESSES) --dist loadfile

integration: module ## run the tests against a real nginx; T= selects
	@$(MAKE) -s -j2 $(CTL)
	@BUILD=$(B) $(PYTEST) $(or $(T),t)

# nginx itself is a binary: the runtime is preloaded into it (t/lib/sanitizer.py), and any report fails its test. The unit tests run
# under ASan and UBSan in `make unit`.
asan: ## run the tests against a real nginx, the module instrumented by ASan, UBSan and LeakSanitizer; T= selects
	@$(MAKE) -s module B=$(B)/asan SANITIZE=address,undefined
	@$(MAKE) -s -j2 $(B)/asan/experimentctl
	@BUILD=$(B)/asan $(PYTEST) $(or $(T),t/ngx t/life)

test: layers lint unit tsan integration ## everything that CI runs
	@$(MAKE) -s asan T='t/ngx t/life --ignore=t/ngx/test_learning.py -k "not bad_documents"'

soak: module ## the long runs in full
	@$(MAKE) -s -j2 $(CTL)
	@SOAK=1 $(PYTEST) -n 0 $(or $(T),t/ngx t/life t/fleet t/redis)

bench: PACKAGES += $(BENCH_PACKAGES)
bench: module ## print what requests, steps and merges cost, each beside its baseline (25 minutes)
	@$(MAKE) -s -j2 $(B)/steps $(B)/scale $(CTL)
	@./$(B)/steps --benchmark_min_time=0.1
	@./$(B)/scale
	@bench/instructions.py
	@bench/request_cost.py
	@bench/throughput.py
	@bench/merge_cost.py
	@bench/counter_protocols.py
	@bench/fleet.py

$(B)/steps: $(B)/gcc/bench/steps.o $(GCC_OBJ)
	@$(CXX) -o $@ $^ $(LIBS) -lbenchmark -pthread

# It compiles plans, to which nginx's headers belong.
$(B)/gcc/bench/scale.o: bench/scale.cpp $(MODULE)
	@mkdir -p $(@D) && $(CXX) $(CXXFLAGS) $(NGINX_INC) -MMD -MP -c $< -o $@
$(B)/scale: $(B)/gcc/bench/scale.o $(GCC_OBJ)
	@$(CXX) -o $@ $^ $(B)/nginx/objs/addon/ngx_module/plan.o $(LIBS)

# --- what keeps the code in shape ------------------------------------------------------------------------------------------
layers: ## fail on an include that points the wrong way
	@bad=$$( { grep -nE '#include "(shared|ngx_module|ctl)/' bandit/*.h bandit/*.cpp; \
	           grep -nE '#include <(nlohmann|openssl|hiredis|CLI)' bandit/*.h bandit/*.cpp; \
	           grep -nE '#include "(ngx_module|ctl)/' shared/*.h shared/*.cpp; \
	           grep -nE '#include <(ngx_|CLI|openssl/(ssl|x509))' shared/*.h shared/*.cpp; \
	           grep -nE '#include <hiredis' ngx_module/*.h ngx_module/*.cpp; \
	           grep -nE '#include "ngx_module/' ctl/*.h ctl/*.cpp; \
	           grep -nE '#include <ngx_' ngx_module/*.h ngx_module/*.cpp | grep -v '^ngx_module/ngx.h:'; } 2>/dev/null ); \
	if [ -n "$$bad" ]; then echo "layers: an include points the wrong way"; echo "$$bad"; exit 1; fi

FORMATTED := $(wildcard bandit/*.h bandit/*.cpp shared/*.h shared/*.cpp ngx_module/*.h ngx_module/*.cpp ctl/*.h ctl/*.cpp \
                        bench/*.cpp t/unit/*/*.h t/unit/*/*.cpp t/fuzz/*.cpp)
format: ## format the C++ sources
	@clang-format -i $(FORMATTED)

# clang-tidy counts what it did not show on stderr; a file that it cannot read is an error on stdout.
N ?= $(B)/nginx
NGINX_INC := $(addprefix -isystem $(N)/,src/core src/event src/event/modules src/os/unix objs src/http src/http/modules src/http/v2)
TIDY = xargs -P 2 -n 4 sh -c 'clang-tidy --quiet "$$@" -- -std=c++17 -I. $(1) 2> $(B)/tidy.$$$$.log || { cat $(B)/tidy.$$$$.log; exit 1; }' tidy
lint: setup $(N)/objs/Makefile ## formatting, naming (clang-tidy) and cppcheck
	@clang-format --dry-run -Werror $(FORMATTED)
	@echo $(LIB_SRC) $(CTL_SRC) | $(TIDY)
	@echo $(wildcard ngx_module/*.cpp) | $(call TIDY,$(NGINX_INC))
	@rm -f $(B)/tidy.*.log
	@cppcheck --quiet --error-exitcode=1 -j 2 --std=c++17 --language=c++ -I. --enable=warning,performance,portability \
	  --inline-suppr --suppress=missingIncludeSystem --suppress=preprocessorErrorDirective $(LIB_SRC) $(CTL_SRC) $(wildcard ngx_module/*.cpp)

run: module ## the demo: real nginx, backend, cache and simulated visitors (DURATION=60 ends by itself, PORT=8080, FLEET=3 edges and a Redis)
	@$(MAKE) -s -j2 $(CTL)
	@$(PYTHON) demo/run.py --module $(MODULE) --ctl $(CTL) $(if $(filter-out 0,$(DURATION)),--duration $(DURATION)) $(if $(filter-out 0,$(PORT)),--port $(PORT)) $(if $(filter-out 0,$(FLEET)),--fleet $(FLEET))

clean: ## remove everything that was built
	@rm -rf $(B)

-include $(wildcard $(B)/tsan/*/*.d $(B)/gcc/*/*.d $(B)/clang/*/*.d $(B)/gcc/t/unit/*/*.d $(B)/clang/t/unit/*/*.d)
