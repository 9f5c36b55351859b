/* wrk knows no client certificates: loaded before it, this gives one to every TLS context that wrk makes.
 * Compiled by `cargo xtask bench`; declares what it calls, so that it needs no headers of OpenSSL. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct ssl_ctx_st SSL_CTX;
typedef struct ssl_method_st SSL_METHOD;
extern int SSL_CTX_use_certificate_chain_file(SSL_CTX *, const char *);
extern int SSL_CTX_use_PrivateKey_file(SSL_CTX *, const char *, int);

SSL_CTX *SSL_CTX_new(const SSL_METHOD *method) {
    SSL_CTX *(*real)(const SSL_METHOD *) = (SSL_CTX * (*)(const SSL_METHOD *)) dlsym(RTLD_NEXT, "SSL_CTX_new");
    const char *certificate = getenv("CLIENT_CERTIFICATE"), *key = getenv("CLIENT_KEY");
    SSL_CTX *context = real ? real(method) : NULL;
    if (!context || !certificate || !key || SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, 1 /* PEM */) != 1) {
        fputs("the client certificate could not be loaded\n", stderr);
        exit(1);
    }
    return context;
}
