package keys_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"github.com/chromad/chromad/engine/keys"
)

var ctx = context.Background()

// newFile makes a key file and gives its path.
func newFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := keys.CreateFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, uri string) keys.Operator {
	t.Helper()
	op, err := keys.Open(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	return op
}

func seal(t *testing.T, op keys.Operator, text, associated string) []byte {
	t.Helper()
	sealed, err := op.EncryptWithContext(ctx, []byte(text), []byte(associated))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// wantOpens checks that op opens sealed with these associated data, and with no other.
func wantOpens(t *testing.T, op keys.Operator, sealed []byte, text, associated string) {
	t.Helper()
	opened, err := op.DecryptWithContext(ctx, sealed, []byte(associated))
	if err != nil || string(opened) != text {
		t.Errorf("decrypted %q, %v; want %q", opened, err, text)
	}
	for _, other := range []string{"", associated + "x", "x" + associated} {
		if _, err := op.DecryptWithContext(ctx, sealed, []byte(other)); !errors.Is(err, keys.ErrWrongKey) {
			t.Errorf("associated data %q: %v, want ErrWrongKey", other, err)
		}
	}
}

// secret finds what a key of a keyset in JSON looks like.
var secret = regexp.MustCompile(`"value": *"([^"]+)"`)

// wantNoSecret checks that err quotes nothing of the keys in text.
func wantNoSecret(t *testing.T, err error, text []byte) {
	t.Helper()
	for _, m := range secret.FindAllSubmatch(text, -1) {
		for n := 0; n+8 <= len(m[1]); n++ {
			if strings.Contains(err.Error(), string(m[1][n:n+8])) {
				t.Errorf("error quotes a key: %v", err)
				return
			}
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestFile(t *testing.T) {
	path := newFile(t)
	op := open(t, path)
	sealed := seal(t, op, "text", "place")
	again := open(t, op.URI())
	wantOpens(t, again, sealed, "text", "place")
	if again.URI() != op.URI() || !strings.HasPrefix(op.URI(), "file:///") {
		t.Errorf("URIs %q and %q", op.URI(), again.URI())
	}
	other := open(t, newFile(t))
	if _, err := other.DecryptWithContext(ctx, sealed, []byte("place")); !errors.Is(err, keys.ErrWrongKey) {
		t.Errorf("another key: %v, want ErrWrongKey", err)
	} else if strings.Contains(err.Error(), "keys create") {
		t.Errorf("a new key is no help with a store that has one: %v", err)
	}
	t.Chdir(filepath.Dir(path))
	if rel := open(t, "key"); rel.URI() != op.URI() {
		t.Errorf("URI of a relative path is %q, want %q", rel.URI(), op.URI())
	}
}

func TestFileNotOverwritten(t *testing.T) {
	path := newFile(t)
	before := read(t, path)
	dangling := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(t.TempDir(), "nowhere"), dangling); err != nil {
		t.Skip("SKIPPED: no symbolic links here:", err)
	}
	for _, p := range []string{path, dangling, filepath.Dir(path)} {
		if err := keys.CreateFile(p); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v, want ErrExist", p, err)
		}
	}
	if !bytes.Equal(read(t, path), before) {
		t.Error("the key file was changed")
	}
	if err := keys.CreateFile(filepath.Join(t.TempDir(), "no", "such")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// A file that was cut anywhere is told, and not by quoting it.
func TestFileTruncated(t *testing.T) {
	path := newFile(t)
	text := read(t, path)
	for n := range len(bytes.TrimSpace(text)) {
		if err := os.WriteFile(path, text[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := keys.OpenFile(path)
		if !errors.Is(err, keys.ErrConfig) {
			t.Fatalf("cut to %d bytes: %v, want ErrConfig", n, err)
		}
		wantNoSecret(t, err, text)
	}
}

// keysetOf makes the JSON of a keyset of these templates; the last key is primary.
func keysetOf(t *testing.T, change func(*tinkpb.Keyset), templates ...*tinkpb.KeyTemplate) []byte {
	t.Helper()
	m := keyset.NewManager()
	for _, template := range templates {
		id, err := m.Add(template)
		if err == nil {
			err = m.SetPrimary(id)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	h, err := m.Handle()
	if err != nil {
		t.Fatal(err)
	}
	ks := insecurecleartextkeyset.KeysetMaterial(h)
	if change != nil {
		change(ks)
	}
	var b bytes.Buffer
	if err := keyset.NewJSONWriter(&b).Write(ks); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestKeysetRefused(t *testing.T) {
	good := aead.AES256GCMKeyTemplate()
	one := keysetOf(t, nil, good)
	status := func(s tinkpb.KeyStatusType) func(*tinkpb.Keyset) {
		return func(ks *tinkpb.Keyset) { ks.Key[len(ks.Key)-1].Status = s }
	}
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "it is empty"},
		{"white space", " \n\t", "it is empty"},
		{"raw bytes", strings.Repeat("\x80k", 16), "not a Tink keyset in JSON"},
		{"hexadecimal", strings.Repeat("5e", 32), "not a Tink keyset in JSON"},
		{"PEM", "-----BEGIN PRIVATE KEY-----\nMIIEvQ\n", "not a Tink keyset in JSON"},
		{"other JSON", `{"key": "s3cr3t-s3cr3t"}`, "not a Tink keyset in JSON, or it is damaged"},
		{"two keysets", string(one) + string(one), "damaged"},
		{"no key", `{"primaryKeyId": 1, "key": []}`, "empty keyset"},
		{"encrypted", `{"encryptedKeyset": "AAAA", "keysetInfo": {}}`, "encrypted Tink keyset"},
		{"too large", string(one) + strings.Repeat(" ", 64<<10), "larger than 65536 bytes"},
		{"128 bits", string(keysetOf(t, nil, aead.AES128GCMKeyTemplate())), "AES128-GCM"},
		{"128 bits beside", string(keysetOf(t, nil, aead.AES128GCMKeyTemplate(), good)), "AES128-GCM"},
		{"other cipher", string(keysetOf(t, nil, aead.ChaCha20Poly1305KeyTemplate())), "not an AES-GCM key"},
		{"no prefix", string(keysetOf(t, nil, aead.AES256GCMNoPrefixKeyTemplate())), "AES256_GCM"},
		{"disabled", string(keysetOf(t, status(tinkpb.KeyStatusType_DISABLED), good)), "non-ENABLED primary key"},
		{"destroyed", string(keysetOf(t, status(tinkpb.KeyStatusType_DESTROYED), good)), "non-ENABLED primary key"},
		{"primary disabled", string(keysetOf(t, status(tinkpb.KeyStatusType_DISABLED), good, good)), "non-ENABLED primary key"},
		{"no primary", string(keysetOf(t, func(ks *tinkpb.Keyset) { ks.PrimaryKeyId++ }, good)), "primary key"},
		{"id twice", string(keysetOf(t, func(ks *tinkpb.Keyset) { ks.Key[0].KeyId = ks.Key[1].KeyId }, good, good)), "duplicate key ID"},
		{"short key", string(keysetOf(t, func(ks *tinkpb.Keyset) { ks.Key[0].KeyData.Value = ks.Key[0].KeyData.Value[:20] }, good)), "damaged"},
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := keys.OpenFile(path)
		if !errors.Is(err, keys.ErrConfig) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ErrConfig with %q", c.name, err, c.want)
			continue
		}
		wantNoSecret(t, err, []byte(c.text))
		if strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "MIIE") {
			t.Errorf("%s: the error quotes the file: %v", c.name, err)
		}
	}
}

// Several keys: the primary encrypts, all that are enabled decrypt.
func TestKeysetSeveral(t *testing.T) {
	path := newFile(t)
	old := seal(t, open(t, path), "old", "a")
	if err := keys.AddKey(path); err != nil {
		t.Fatal(err)
	}
	both := open(t, path)
	wantOpens(t, both, old, "old", "a")
	young := seal(t, both, "new", "b")

	disabled := regexp.MustCompile(`"status":\s*"ENABLED"`)
	text, first := read(t, path), true
	text = disabled.ReplaceAllFunc(text, func(b []byte) []byte { // the first key is the older one
		if !first {
			return b
		}
		first = false
		return []byte(`"status":"DISABLED"`)
	})
	beside := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(beside, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, beside).DecryptWithContext(ctx, old, []byte("a")); !errors.Is(err, keys.ErrWrongKey) {
		t.Errorf("with a disabled key: %v, want ErrWrongKey", err)
	}
	wantOpens(t, open(t, beside), young, "new", "b")

	if err := keys.DropOldKeys(path); err != nil {
		t.Fatal(err)
	}
	alone := open(t, path)
	wantOpens(t, alone, young, "new", "b")
	if _, err := alone.DecryptWithContext(ctx, old, []byte("a")); !errors.Is(err, keys.ErrWrongKey) {
		t.Errorf("after dropping: %v, want ErrWrongKey", err)
	}
	wantOpens(t, both, old, "old", "a") // whoever has it open keeps it
}

func TestRotationOfFile(t *testing.T) {
	path := newFile(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Skip("SKIPPED: no symbolic links here:", err)
	}
	if err := keys.AddKey(link); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v, %v", info, err)
	}
	before := read(t, path)
	if n := len(secret.FindAll(before, -1)); n != 2 {
		t.Errorf("the file has %d keys, want 2", n)
	}
	if err := os.WriteFile(path+".new", nil, 0o600); err != nil { // what a crash leaves
		t.Fatal(err)
	}
	err := keys.AddKey(path)
	if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), ".new") {
		t.Errorf("beside another change: %v, want ErrExist that names the file", err)
	}
	if !bytes.Equal(read(t, path), before) {
		t.Error("the key file was changed")
	}
	if err := keys.AddKey(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestEnv(t *testing.T) {
	value, err := keys.GenerateEnv()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("CHROMAD_TEST_KEY", value)
	op := open(t, "env://CHROMAD_TEST_KEY")
	sealed := seal(t, op, "text", "place")
	text, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	wantOpens(t, open(t, path), sealed, "text", "place") // the same key as a file
	t.Setenv("CHROMAD_TEST_KEY", value[:40]+"\n  "+value[40:]+"\n")
	wantOpens(t, open(t, op.URI()), sealed, "text", "place")

	for _, c := range []struct{ name, value, want string }{
		{"CHROMAD_TEST_KEY", "", "is empty"},
		{"CHROMAD_TEST_KEY", " \n", "is empty"},
		{"CHROMAD_TEST_KEY", string(text), "base64 of it"},
		{"CHROMAD_TEST_KEY", "s3cr3t-!", "not base64"},
		{"CHROMAD_TEST_KEY", value[:len(value)/2/4*4], "cut off"},
		{"CHROMAD_TEST_KEY", strings.Repeat("A", 1<<20), "too long"},
		{"CHROMAD_TEST_UNSET", "", "is not set"},
		{"", "", "no name"},
		{"A=B", "", "no name"},
	} {
		t.Setenv("CHROMAD_TEST_KEY", c.value)
		_, err := keys.Open(ctx, "env://"+c.name)
		if !errors.Is(err, keys.ErrConfig) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%.10q: %v, want ErrConfig with %q", c.name, c.value, err, c.want)
			continue
		}
		wantNoSecret(t, err, text)
		if strings.Contains(err.Error(), "s3cr3t") || len(err.Error()) > 1000 {
			t.Errorf("the error quotes the value: %v", err)
		}
	}
}

func TestOpen(t *testing.T) {
	for uri, want := range map[string]string{
		"":                             "no key is named",
		"aws-kms://arn:aws:kms:x":      "scheme aws-kms is not known here",
		"http://host/key":              "scheme http is not known here",
		"file://relative/key":          "names no file",
		"file://":                      "names no file",
		"file:///key?x=1":              "names no file",
		"file:///bad%zz":               "names no file",
		"/no/such/file/of/a/key":       "no such file",
		"file:///no/such/file%20a/key": "no such file",
	} {
		if _, err := keys.Open(ctx, uri); !errors.Is(err, keys.ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want ErrConfig with %q", uri, err, want)
		}
	}
	dir := filepath.Join(t.TempDir(), "with space % and ?")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "key")
	if err := keys.CreateFile(path); err != nil {
		t.Fatal(err)
	}
	sealed := seal(t, open(t, path), "text", "")
	if opened, err := open(t, open(t, path).URI()).DecryptWithContext(ctx, sealed, nil); err != nil || string(opened) != "text" {
		t.Errorf("through its URI: %q, %v", opened, err)
	}
}

func TestContextEnded(t *testing.T) {
	path := newFile(t)
	op := open(t, path)
	sealed := seal(t, op, "text", "")
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err1 := keys.Open(ended, path)
	_, err2 := op.EncryptWithContext(ended, []byte("a"), nil)
	_, err3 := op.DecryptWithContext(ended, sealed, nil)
	for i, err := range []error{err1, err2, err3} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("call %d: %v, want Canceled", i, err)
		}
	}
}

func TestRedacted(t *testing.T) {
	path := newFile(t)
	op := open(t, path)
	encoded, err := json.Marshal(map[string]any{"key": op})
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got, want := fmt.Sprintf(verb, op), "key "+op.URI()+" (redacted)"; got != want {
			t.Errorf("%s prints %q, want %q", verb, got, want)
		}
	}
	if !strings.Contains(string(encoded), "redacted") {
		t.Errorf("JSON is %s", encoded)
	}
}

// A program that embeds the engine gets no client of a key service with it.
func TestEngineWithoutClients(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: runs the go tool, not in short mode")
	}
	list := func(pkg string) string {
		out, err := exec.Command("go", "list", "-deps", pkg).CombinedOutput()
		if err != nil {
			t.Fatalf("go list -deps %s: %v\n%s", pkg, err, out)
		}
		return string(out)
	}
	clients := regexp.MustCompile(`(?m)^(github\.com/(aws|hashicorp)/|google\.golang\.org/(grpc|api)|golang\.org/x/oauth2|cloud\.google\.com|net/http$).*`)
	for _, pkg := range []string{"../../engine", "."} {
		if found := clients.FindAllString(list(pkg), -1); found != nil {
			t.Errorf("%s links %q", pkg, found)
		}
	}
	if found := clients.FindString(list("./all")); found == "" {
		t.Error("./all links no client: the test looks for the wrong names")
	}
}
