//! The programs of an API server, and how clients find it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use towpath_e2e::binaries::Binaries;

pub fn start_etcd(binaries: &Binaries, folder: &Path) -> Child {
    Command::new(binaries.path("etcd"))
        .arg(format!("--data-dir={}", folder.join("etcd").display()))
        .args(["--unsafe-no-fsync", "--log-level=error"])
        .stderr(File::create(folder.join("etcd.log")).unwrap())
        .spawn()
        .unwrap()
}

pub fn start_api_server(binaries: &Binaries, folder: &Path, more: &[&str]) -> Child {
    let files = [
        ("token-auth-file", "tokens.csv"),
        ("tls-cert-file", "server.crt"),
        ("tls-private-key-file", "server.key"),
        ("service-account-key-file", "sa.pub"),
        ("service-account-signing-key-file", "sa.key"),
    ];
    Command::new(binaries.path("kube-apiserver"))
        .args(files.map(|(flag, file)| format!("--{flag}={}", folder.join(file).display())))
        .args(["--etcd-servers=http://127.0.0.1:2379", "--bind-address=127.0.0.1", "--advertise-address=10.0.0.1"])
        .args([
            "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112",
            "--service-account-issuer=https://localhost",
        ])
        .arg("--authorization-mode=RBAC")
        .args(more)
        .stderr(File::create(folder.join("kube-apiserver.log")).unwrap())
        .spawn()
        .unwrap()
}

pub fn write_kubeconfig(folder: &Path, name: &str, impersonation: &serde_json::Value) -> PathBuf {
    let mut user = json!({"token": "token"});
    user.as_object_mut().unwrap().extend(impersonation.as_object().unwrap().clone());
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {
            "server": "https://127.0.0.1:6443", "certificate-authority": folder.join("server.crt"),
        }}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "users": [{"name": "test", "user": user}],
    });
    let path = folder.join(name);
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

pub async fn client(kubeconfig: &Path) -> Client {
    Client::try_from(config(kubeconfig).await).unwrap()
}

pub async fn config(kubeconfig: &Path) -> Config {
    let read = Kubeconfig::read_from(kubeconfig).unwrap();
    Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap()
}
