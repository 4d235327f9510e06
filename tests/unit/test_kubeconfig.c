/* Kubeconfig files, good and bad, and what a bad one is told. */
#include "executor/kubernetes/kubeconfig.h"

#include <errno.h>

#include "base/alloc.h"
#include "test.h"

/* "-----BEGIN CERTIFICATE-----\nx\n" and "-----BEGIN PRIVATE KEY-----\nx\n" in base64; then an encrypted key. */
#define CERTIFICATE "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCngK"
#define KEY "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCngK"
#define LOCKED "LS0tLS1CRUdJTiBFTkNSWVBURUQgUFJJVkFURSBLRVktLS0tLQp4Cg=="

#define FILE_OF(cluster, user) \
	"apiVersion: v1\nkind: Config\ncurrent-context: c\n" \
	"contexts: [{name: c, context: {cluster: k, user: u}}]\n" \
	"clusters: [{name: k, cluster: {" cluster "}}]\n" \
	"users: [{name: u, user: {" user "}}]\n"
#define SERVER "server: \"https://host:6443\""

static int parse(const char *text, const char *context, struct kubeconfig *config, struct err *err)
{
	*err = (struct err){ 0 };
	return kubeconfig_parse(bytes_of(text), "/etc/assay/kube.yaml", context, config, err);
}

static const char ordinary[] =
	"apiVersion: v1\n"
	"kind: Config\n"
	"preferences: {}\n"
	"current-context: here\n"
	"contexts:\n"
	"- name: there\n"
	"  context: {cluster: other, user: certified, namespace: far-away}\n"
	"- name: here\n"
	"  context: {cluster: mine, user: worker, namespace: crucible, extensions: []}\n"
	"- name: proxied\n"
	"  context: {cluster: local}\n"
	"- name: files\n"
	"  context: {cluster: filed, user: filed}\n"
	"clusters:\n"
	"- name: mine\n"
	"  cluster:\n"
	"    server: https://10.0.0.1:6443/\n"
	"    certificate-authority: not-this\n"
	"    certificate-authority-data: " CERTIFICATE "\n"
	"    tls-server-name: kubernetes.default\n"
	"    disable-compression: true\n"
	"- name: other\n"
	"  cluster: {server: \"https://[::1]:6443/k8s/clusters/c-1\", insecure-skip-tls-verify: true, proxy-url: "
	"\"\"}\n"
	"- name: local\n"
	"  cluster: {server: \"http://127.0.0.1:8001\"}\n"
	"- name: filed\n"
	"  cluster: {server: \"https://host\", certificate-authority: pki/ca.crt}\n"
	"users:\n"
	"- name: worker\n"
	"  user: {token: abc.def, exec: null, username: \"\", as-groups: []}\n"
	"- name: certified\n"
	"  user:\n"
	"    client-certificate-data: |\n"
	"      LS0tLS1CRUdJTiBDRVJUSUZJ\n"
	"      Q0FURS0tLS0tCngK\n"
	"    client-key-data: " KEY "\n"
	"- name: filed\n"
	"  user: {tokenFile: /run/token, token: old, client-certificate: a.crt, client-key: ../b.key}\n"
	"- name: worker\n"
	"  user: {token: second}\n";

TEST(an_ordinary_file)
{
	struct kubeconfig config;
	struct err err;
	REQUIRE(parse(ordinary, NULL, &config, &err) == 0);
	CHECK_STR(config.server, "https://10.0.0.1:6443");
	CHECK_STR(config.server_name, "kubernetes.default");
	CHECK_STR(config.namespace_name, "crucible");
	CHECK_BYTES(config.ca, "-----BEGIN CERTIFICATE-----\nx\n");
	CHECK_STR(config.token, "abc.def");
	CHECK_STR(config.token_file, NULL);
	CHECK(!config.insecure);
	CHECK_BYTES(config.certificate, BYTES_NONE);
	kubeconfig_fini(&config);
}

TEST(another_context)
{
	struct kubeconfig config;
	struct err err;
	REQUIRE(parse(ordinary, "there", &config, &err) == 0);
	CHECK_STR(config.server, "https://[::1]:6443/k8s/clusters/c-1");
	CHECK_STR(config.namespace_name, "far-away");
	CHECK(config.insecure);
	CHECK_BYTES(config.ca, BYTES_NONE);
	CHECK_BYTES(config.certificate, "-----BEGIN CERTIFICATE-----\nx\n");
	CHECK_BYTES(config.key, "-----BEGIN PRIVATE KEY-----\nx\n");
	CHECK_STR(config.token, NULL);
	kubeconfig_fini(&config);
	REQUIRE(parse(ordinary, "proxied", &config, &err) == 0);
	CHECK_STR(config.server, "http://127.0.0.1:8001");
	CHECK_STR(config.namespace_name, NULL);
	CHECK_STR(config.token, NULL);
	kubeconfig_fini(&config);
}

TEST(files_are_beside_the_kubeconfig)
{
	struct kubeconfig config;
	struct err err;
	REQUIRE(parse(ordinary, "files", &config, &err) == 0);
	CHECK_STR(config.ca_file, "/etc/assay/pki/ca.crt");
	CHECK_STR(config.certificate_file, "/etc/assay/a.crt");
	CHECK_STR(config.key_file, "/etc/assay/../b.key");
	CHECK_STR(config.token_file, "/run/token");
	kubeconfig_fini(&config);
	REQUIRE(kubeconfig_parse(bytes_of(ordinary), "kube.yaml", "files", &config, &err) == 0);
	CHECK_STR(config.ca_file, "pki/ca.crt");
	kubeconfig_fini(&config);
}

TEST(json_is_yaml_too)
{
	struct kubeconfig config;
	struct err err;
	REQUIRE(parse("{\"kind\":\"Config\",\"current-context\":\"a\",\"contexts\":[{\"name\":\"a\",\"context\":{"
		      "\"cluster\":"
		      "\"b\",\"user\":\"c\"}}],\"clusters\":[{\"name\":\"b\",\"cluster\":{\"server\":\"https://"
		      "h\"}}],\"users\":"
		      "[{\"name\":\"c\",\"user\":{\"token\":\"t\"}}]}",
			NULL, &config, &err) == 0);
	CHECK_STR(config.token, "t");
	kubeconfig_fini(&config);
}

static const struct {
	const char *text, *words;
} bad[] = {
	{ "", "not a kubeconfig" },
	{ "[]", "not a kubeconfig" },
	{ "kind: Pod", "its kind is not Config" },
	{ "a: [", "line 2: " },
	{ "kind: Config", "current-context is not set: set it (kubectl config use-context), or name a context" },
	{ "current-context: 5", "current-context must be a string (quote what looks like a number)" },
	{ "current-context: c", "context \"c\": there is none of this name in contexts" },
	{ "current-context: c\ncontexts: {}", "contexts must be a list" },
	{ "current-context: c\ncontexts: [5, {name: c}]", "context \"c\": context must map keys to values" },
	{ "current-context: c\ncontexts: [{name: c, context: {user: u}}]", "cluster is missing" },
	{ "current-context: c\ncontexts: [{name: c, context: {cluster: k, namespace: a/b}}]",
		"namespace must be a name of small letters, digits and \"-\"" },
	{ "current-context: c\ncontexts: [{name: c, context: {cluster: \"k\\n\"}}]",
		"cluster \"k?\": there is none of this name in clusters" },
	{ FILE_OF("", ""), "cluster \"k\": server is missing" },
	{ FILE_OF("server: 5", ""), "server must be a string" },
	{ FILE_OF("server: host", ""), "server must be a URL like https://host:port" },
	{ FILE_OF("server: \"https://\"", ""), "server must be a URL like https://host:port" },
	{ FILE_OF("server: \"https:///path\"", ""), "server must be a URL like https://host:port" },
	{ FILE_OF("server: \"ftp://host\"", ""), "server must be a URL like https://host:port" },
	{ FILE_OF("server: \"https://me:secret@host\"", ""), "server must be a URL without user, query and fragment" },
	{ FILE_OF("server: \"https://host?a\"", ""), "server must be a URL without user, query and fragment" },
	{ FILE_OF("server: \"https://ho st\"", ""), "server must be a URL without spaces" },
	{ FILE_OF("server: \"https://host\\r\\nX: y\"", ""), "server must be a URL without spaces" },
	{ FILE_OF(SERVER ", proxy-url: \"http://p\"", ""),
		"proxy-url is not supported: the API server must be reachable" },
	{ FILE_OF(SERVER ", certificate-authority-data: \"!\"", ""), "certificate-authority-data must be base64" },
	{ FILE_OF(SERVER ", certificate-authority-data: eHg=", ""),
		"certificate-authority-data must be certificates in PEM" },
	{ FILE_OF(SERVER ", certificate-authority-data: " KEY, ""),
		"certificate-authority-data must be certificates in PEM" },
	{ FILE_OF(SERVER ", insecure-skip-tls-verify: \"yes\"", ""), "insecure-skip-tls-verify must be true or false" },
	{ FILE_OF(SERVER ", insecure-skip-tls-verify: true, certificate-authority: ca.crt", ""),
		"insecure-skip-tls-verify and certificate-authority exclude each other" },
	{ FILE_OF(SERVER, "exec: {command: aws}"), "user \"u\": exec plugins are not run: give a token" },
	{ FILE_OF(SERVER, "auth-provider: {name: gcp}"), "auth-provider plugins are not supported: give a token" },
	{ FILE_OF(SERVER, "username: me, password: secret"), "username and password are not supported" },
	{ FILE_OF(SERVER, "password: secret"), "username and password are not supported" },
	{ FILE_OF(SERVER, "token: a, as: system:admin"), "as: impersonation is not supported" },
	{ FILE_OF(SERVER, "token: a, as-groups: [system:masters]"), "as-groups: impersonation is not supported" },
	{ FILE_OF(SERVER, "token: 12345"), "token must be a string (quote what looks like a number)" },
	{ FILE_OF(SERVER, "token: \"secret word\""), "token must be one word of visible ASCII" },
	{ FILE_OF(SERVER, "token: \"secret\\r\\nX: y\""), "token must be one word of visible ASCII" },
	{ FILE_OF(SERVER, "token: \"secret\\0\""), "token is too long, or has a zero byte" },
	{ FILE_OF(SERVER, "tokenFile: [a]"), "tokenFile must be a string" },
	{ FILE_OF(SERVER, "client-certificate: a.crt"), "client-certificate without client-key" },
	{ FILE_OF(SERVER, "client-key-data: " KEY), "client-key without client-certificate" },
	{ FILE_OF(SERVER, "client-certificate: a.crt, client-key-data: " CERTIFICATE),
		"client-key-data must be a private key in PEM" },
	{ FILE_OF(SERVER, "client-certificate: a.crt, client-key-data: " LOCKED),
		"client-key-data must be a private key without a pass phrase" },
	{ "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: v}}]\nclusters: [{name: k, cluster: "
	  "{" SERVER "}}]",
		"user \"v\": there is none of this name in users" },
};

TEST(bad_files_are_told_what_is_wrong)
{
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct kubeconfig config = { 0 };
		struct err err;
		if (!CHECK_INT(parse(bad[i].text, NULL, &config, &err), -EINVAL) ||
			!CHECK(strstr(err.message, bad[i].words)))
			printf("# %s: %s\n", bad[i].text, err.message);
		CHECK(strncmp(err.message, "/etc/assay/kube.yaml: ", 22) == 0);
		CHECK(!strstr(err.message, "secret"));
		CHECK_STR(config.server, NULL);
	}
}

TEST(names_have_bounds)
{
	char label[65];
	memset(label, 'a', sizeof(label));
	CHECK(!kube_namespace_fault((struct bytes){ label, 63 }));
	CHECK(kube_namespace_fault((struct bytes){ label, 64 }));
	CHECK(kube_namespace_fault(bytes_of("")));
	CHECK(kube_namespace_fault(bytes_of("-a")));
	CHECK(kube_namespace_fault(bytes_of("a-")));
	CHECK(kube_namespace_fault(bytes_of("A")));
	CHECK(!kube_namespace_fault(bytes_of("a-1")));
	struct bytes token = { alloc(32769), 32768 };
	memset((char *)token.data, 'a', 32769);
	CHECK(!kube_token_fault(token));
	token.len++;
	CHECK(kube_token_fault(token));
	free((char *)token.data);
}

TEST_MAIN()
