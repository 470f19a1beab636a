export default function Login() {
  async function logIn(event) {
    event.preventDefault();
    await fetch("/api/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(Object.fromEntries(new FormData(event.target))),
    });
    location.assign("/dashboard");
  }
  return (
    <form onSubmit={logIn}>
      <h1>Login</h1>
      <input name="name" placeholder="Name" />
      <input name="password" type="password" placeholder="Password" />
      <button>Log in</button>
    </form>
  );
}
