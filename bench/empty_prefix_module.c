/* Variables $empty_... whose handler does nothing: what nginx itself asks for reading a prefix variable. */
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

static ngx_int_t get_empty(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data) {
  v->valid = 1;
  v->no_cacheable = 1;
  v->not_found = 0;
  v->len = 1;
  v->data = (u_char *)"a";
  return NGX_OK;
}

static ngx_int_t add_variables(ngx_conf_t *cf) {
  ngx_str_t name = ngx_string("empty_");
  ngx_http_variable_t *var = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE | NGX_HTTP_VAR_PREFIX);
  if (var == NULL) return NGX_ERROR;
  var->get_handler = get_empty;
  return NGX_OK;
}

static ngx_http_module_t context = {add_variables, NULL, NULL, NULL, NULL, NULL, NULL, NULL};
static ngx_command_t commands[] = {ngx_null_command};
ngx_module_t ngx_http_empty_prefix_module = {
    NGX_MODULE_V1, &context, commands, NGX_HTTP_MODULE, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NGX_MODULE_V1_PADDING};

ngx_module_t *ngx_modules[] = {&ngx_http_empty_prefix_module, NULL};
char *ngx_module_names[] = {"ngx_http_empty_prefix_module", NULL};
char *ngx_module_order[] = {NULL};
