#!/usr/bin/env bash
# The commands of the tutorial, each with its real output and a check of it. demo.sh runs this in the node's namespace.
set -euo pipefail
: "${DEMO_DIRECTORY:?demo.sh sets it}"
step='start' output=''

heading() { step=$*; printf '\n\e[1m== %s\e[0m\n' "$step"; }
fail() { printf '\n\e[1;31mdemo: "%s" failed: %s\e[0m\n' "$step" "$*" >&2; exit 1; }
# Types a command; its output is shown and kept.
run() {
    local code=0
    printf '\e[36m$ %s\e[0m\n' "$*"
    output=$(eval "$*" 2>&1) || code=$?
    [ -z "$output" ] || printf '%s\n' "$output"
    [ $code = 0 ] || fail "exit code $code of: $*"
}
# Runs a command whose output only the checks need.
quiet() { output=$(eval "$*" 2>&1) || fail "$*: $output"; }
expect() { grep -qE -- "$1" <<<"$output" || fail "the output has nothing like: $1"; }
equal() { [ "$1" = "$2" ] || fail "$3: expected $2, got $1"; }

serve() {
    printf '\e[36m$ sampan server --node-ip 203.0.113.10 --node-external-ip 203.0.113.10 --node-name node-1 &\e[0m\n'
    sampan server --node-ip 203.0.113.10 --node-external-ip 203.0.113.10 --node-name node-1 >>"$DEMO_DIRECTORY/server.log" 2>&1 </dev/null &
    server=$!
    echo "$server" >"$DEMO_DIRECTORY/server.pid"
    # The file appears before the API answers; after that the one sign is an answer.
    local deadline=$((SECONDS + 20))
    until kubectl get --raw /readyz >/dev/null 2>&1; do
        kill -0 "$server" 2>/dev/null || fail "the server ended: $(tail -n 3 "$DEMO_DIRECTORY/server.log")"
        [ $SECONDS -lt $deadline ] || fail "the API did not answer in time"
        sleep 0.02
    done
}
# Waits until the deployment has just that many pods, all ready, and the others are gone.
settled() {
    local leaving
    quiet "kubectl wait deployment/my-nginx --for='jsonpath={.status.replicas}=$1' --timeout=30s"
    quiet kubectl rollout status deployment/my-nginx --timeout=30s
    leaving=$(kubectl get pods -l run=my-nginx -o jsonpath='{range .items[?(@.metadata.deletionTimestamp)]}pod/{.metadata.name} {end}')
    [ -z "$leaving" ] || quiet "kubectl wait --for=delete $leaving --timeout=30s"
}
pods() { kubectl get pods -l run=my-nginx -o jsonpath='{range .items[*]}{.metadata.name} {end}'; }
pod_ips() { kubectl get pods -l run=my-nginx -o jsonpath='{range .items[*]}{.status.podIP}{"\n"}{end}' | sort; }
container_ids() { kubectl get pods -A -o jsonpath='{range .items[*]}{.status.containerStatuses[*].containerID} {.status.containerStatuses[*].restartCount}{"\n"}{end}' | sort; }

heading "0. The server"
serve
run kubectl wait --for=create node/node-1 --timeout=20s
run kubectl wait --for=condition=Ready node/node-1 --timeout=20s
run kubectl get nodes -o wide
quiet kubectl wait --for=create serviceaccount/default --timeout=20s

heading "1. Exposing pods to the cluster"
run kubectl apply -f examples/run-my-nginx.yaml
expect '^deployment.apps/my-nginx created$'
run kubectl apply -f examples/run-my-nginx.yaml
expect '^deployment.apps/my-nginx unchanged$'
run kubectl rollout status deployment/my-nginx --timeout=30s
run "sed 's/replicas: 2/replicas: 3/' examples/run-my-nginx.yaml | kubectl apply -f -"
expect '^deployment.apps/my-nginx configured$'
run kubectl apply -f examples/run-my-nginx.yaml
settled 2

heading "2. The pods have addresses of their own"
run kubectl get pods -l run=my-nginx -o wide
expect '^NAME +READY +STATUS +RESTARTS +AGE +IP +NODE +NOMINATED NODE +READINESS GATES$'
equal "$(grep -c ' Running ' <<<"$output")" 2 "running pods"
run "kubectl get pods -l run=my-nginx -o custom-columns=POD_IP:.status.podIPs"
mapfile -t ips < <(pod_ips)
equal "$(printf '%s\n' "${ips[@]}" | sort -u | wc -l)" 2 "different pod addresses"

heading "3. Every pod answers on port 80, from the node and from another pod, without NAT"
run kubectl run curl --image=curlimages/curl:8.18.0 --restart=Never --command -- sleep infinity
quiet kubectl wait --for=condition=Ready pod/curl --timeout=20s
for ip in "${ips[@]}"; do
    run "curl -sS -m 5 http://$ip | grep title"
    expect 'Welcome to nginx'
    run "kubectl exec curl -- curl -sS -m 5 http://$ip/?from-a-pod | grep title"
    expect 'Welcome to nginx'
done
client=$(kubectl get pod curl -o jsonpath='{.status.podIP}')
run "kubectl logs -l run=my-nginx | grep from-a-pod"
equal "$(grep -c "^$client " <<<"$output")" 2 "requests that nginx saw from the caller's own address $client"
run "ss -ltn '( sport = :80 )'"
equal "$(wc -l <<<"$output")" 1 "lines of listening sockets on the node's own port 80"

heading "4. Creating a Service"
run kubectl expose deployment/my-nginx
expect '^service/my-nginx exposed$'
run kubectl get svc my-nginx
expect '^NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE$'
service=$(kubectl get svc my-nginx -o jsonpath='{.spec.clusterIP}')
quiet "kubectl wait endpointslice -l kubernetes.io/service-name=my-nginx --for='jsonpath={.endpoints[1].conditions.ready}=true' --timeout=10s"
run kubectl describe svc my-nginx
for ip in "${ips[@]}"; do expect "Endpoints:.*$ip:80"; done
run kubectl get endpointslices -l kubernetes.io/service-name=my-nginx
run "kubectl get endpoints my-nginx 2>/dev/null"

heading "5. Its virtual address answers everywhere, and balances"
run "curl -sS -m 5 http://$service | grep title"
expect 'Welcome to nginx'
run "kubectl exec curl -- curl -sS -m 5 http://$service | grep title"
expect 'Welcome to nginx'
first=$(pods | cut -d' ' -f1)
# A backend that calls its own Service: over eight connections it meets itself, too.
run "kubectl exec $first -- sh -c 'for i in 1 2 3 4 5 6 7 8; do wget -qO- http://$service || exit; done' | grep -c title"
equal "$output" 8 "answers to a backend"
run "curl -sS -m 20 -H 'Connection: close' 'http://$service/?balance=[1-200]' | grep -c title"
equal "$output" 200 "answers"
for pod in $(pods); do
    run "kubectl logs $pod | grep -c '?balance='"
    if [ "$output" -lt 60 ] || [ "$output" -gt 140 ]; then fail "$pod got $output of 200 connections"; fi
done

heading "6. Environment variables and DNS"
run "kubectl exec $first -- printenv | grep SERVICE"
expect '^KUBERNETES_SERVICE_HOST='
run kubectl scale deployment my-nginx --replicas=0
run kubectl wait --for=delete pod -l run=my-nginx --timeout=30s
run kubectl scale deployment my-nginx --replicas=2
quiet kubectl rollout status deployment/my-nginx --timeout=30s
second=$(pods | cut -d' ' -f1)
run "kubectl exec $second -- printenv | grep SERVICE"
expect "^MY_NGINX_SERVICE_HOST=$service$"
expect '^MY_NGINX_SERVICE_PORT=80$'
run kubectl get services kube-dns --namespace=kube-system
for name in my-nginx my-nginx.default my-nginx.default.svc.cluster.local; do
    run "kubectl exec curl -- getent hosts $name"
    expect "^$service "
done
run "kubectl run fetch --image=curlimages/curl:8.18.0 -i --rm --restart=Never --quiet --command -- curl -sS -m 5 http://my-nginx | grep title"
expect 'Welcome to nginx'

heading "7. Endpoints follow the pods"
run kubectl scale deployment my-nginx --replicas=4
quiet kubectl rollout status deployment/my-nginx --timeout=30s
quiet "kubectl wait endpointslice -l kubernetes.io/service-name=my-nginx --for='jsonpath={.endpoints[3].conditions.ready}=true' --timeout=10s"
run kubectl get endpointslices -l kubernetes.io/service-name=my-nginx
victim=$(pods | cut -d' ' -f1)
gone=$(kubectl get pod "$victim" -o jsonpath='{.status.podIP}')
run kubectl delete pod "$victim"
quiet kubectl rollout status deployment/my-nginx --timeout=30s
run kubectl get pods -l run=my-nginx -o wide
if grep -qw "$gone" <<<"$output"; then fail "the replacement has the old address $gone"; fi
run "kubectl get endpoints my-nginx 2>/dev/null"
if grep -qw "$gone:80" <<<"$output"; then fail "$gone is still an endpoint"; fi
run "curl -sS -m 20 -H 'Connection: close' 'http://$service/?after=[1-100]' | grep -c title"
equal "$output" 100 "answers"
run kubectl scale deployment my-nginx --replicas=2
settled 2

heading "8. Bad input is refused, and says why"
printf 'appiVersion: v1\nkind: Servvice\nmetadata:\n  name: my-nginx\n' >"$DEMO_DIRECTORY/typo.yaml"
run "kubectl create -f $DEMO_DIRECTORY/typo.yaml || echo \"exit code \$?\""
expect 'apiVersion not set|apiVersion'
expect '^exit code 1$'

# One request after the other, by address and by name, from inside a pod; a failure is a line of its own.
# shellcheck disable=SC2016 # its own variables
traffic='ask() { while :; do if curl -sS -o /dev/null -m 10 "http://$1"; then echo "ok $1"; else echo "FAILED $1"; fi; sleep 0.02; done; }; ask '$service' & ask my-nginx'
count() { kubectl logs traffic | grep -c "^$1" || true; }

heading "9. Pods, addresses and connections outlive the server"
run "kubectl run traffic --image=curlimages/curl:8.18.0 --restart=Never --command -- sh -c '$traffic'"
quiet kubectl wait --for=condition=Ready pod/traffic --timeout=20s
for signal in TERM KILL; do
    ids=$(container_ids) addresses=$(pod_ips) answers=$(count "ok $service")
    run "kill -$signal $server"
    wait "$server" 2>/dev/null || true
    run "curl -sS -m 20 -H 'Connection: close' 'http://$service/?server-is-down=[1-100]' | grep -c title"
    equal "$output" 100 "answers while the server was down"
    serve
    run kubectl get deployments,services
    quiet kubectl wait --for=condition=Ready node/node-1 --timeout=20s
    equal "$(container_ids)" "$ids" "containers and their restarts"
    equal "$(pod_ips)" "$addresses" "pod addresses"
    equal "$(kubectl get svc my-nginx -o jsonpath='{.spec.clusterIP}')" "$service" "the ClusterIP"
    run "kubectl logs traffic | sort | uniq -c"
    equal "$(count FAILED)" 0 "failed requests of a pod"
    [ "$(count "ok $service")" -gt "$answers" ] || fail "the pod's requests stopped"
done
run kubectl scale deployment my-nginx --replicas=3
run kubectl rollout status deployment/my-nginx --timeout=30s

heading "10. Securing the Service"
quiet kubectl delete pod traffic --now
keys=$DEMO_DIRECTORY
run "openssl req -x509 -nodes -days 365 -newkey rsa:2048 -keyout $keys/nginx.key -out $keys/nginx.crt -subj /CN=my-nginx/O=my-nginx 2>/dev/null"
run kubectl create secret tls nginxsecret --key "$keys/nginx.key" --cert "$keys/nginx.crt"
run kubectl get secrets
expect 'nginxsecret +kubernetes.io/tls +2'
run kubectl create configmap nginxconfigmap --from-file=examples/default.conf
run kubectl describe configmap nginxconfigmap
expect 'ssl_certificate'
run kubectl delete deployments,svc my-nginx
run kubectl create -f examples/nginx-secure-app.yaml
quiet kubectl rollout status deployment/my-nginx --timeout=30s
run "kubectl get pods -l run=my-nginx -o custom-columns=POD_IP:.status.podIPs"
secured=$(pod_ips | tail -n 1)
run "curl -sS -m 5 -k https://$secured | grep title"
expect 'Welcome to nginx'
run kubectl apply -f examples/curlpod.yaml
quiet kubectl rollout status deployment/curl-deployment --timeout=30s
run kubectl get pods -l app=curlpod
run "kubectl exec deployment/curl-deployment -- curl -sS -m 5 https://my-nginx --cacert /etc/nginx/ssl/tls.crt | grep title"
expect 'Welcome to nginx'

heading "11. Exposing the Service"
run "kubectl get svc my-nginx -o yaml | grep nodePort -C 5"
port=$(kubectl get svc my-nginx -o jsonpath='{.spec.ports[?(@.name=="https")].nodePort}')
run "kubectl get nodes -o yaml | grep ExternalIP -B 1"
expect '203.0.113.10'
run "curl -sS -m 5 -k https://203.0.113.10:$port | grep title"
expect 'Welcome to nginx'
run "KUBE_EDITOR='sed -i s/NodePort/LoadBalancer/' kubectl edit svc my-nginx"
expect '^service/my-nginx edited$'
quiet "kubectl wait svc/my-nginx --for='jsonpath={.status.loadBalancer.ingress[0].ip}=203.0.113.10' --timeout=10s"
run kubectl get svc my-nginx
expect 'LoadBalancer +[0-9.]+ +203.0.113.10 '
quiet "for i in 1 2 3 4 5; do curl -sS -m 5 -k https://203.0.113.10 && break; sleep 0.1; done"
run "curl -sS -m 5 -k https://203.0.113.10 | grep title"
expect 'Welcome to nginx'
