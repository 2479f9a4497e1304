package report

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser starts a headless Chromium that reaches no network. The test is skipped where there is none, but fails in CI.
func browser(t *testing.T) context.Context {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("no Chromium here; install the package chromium")
		}
		t.Skip("no Chromium here; `apt-get install chromium` to look at the page with a real browser")
	}
	opts := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND"), chromedp.UserDataDir(t.TempDir()))
	alloc, cancel := chromedp.NewExecAllocator(context.Background(), opts...)
	t.Cleanup(cancel)
	ctx, cancel := context.WithTimeout(alloc, 90*time.Second)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	return ctx
}

// listen opens the tab and hands over what it reports.
func listen(t *testing.T, ctx context.Context, fn func(ev any)) {
	t.Helper()
	if err := chromedp.Listen(ctx, fn); err != nil {
		t.Fatal(err)
	}
	for _, enable := range []cdp.Command[cdp.Empty, cdp.Empty]{log.Enable, runtime.Enable, audits.Enable} {
		if _, err := chromedp.Call(ctx, enable, cdp.Empty{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
}

// media makes the page believe in another medium and colour scheme.
func media(medium, scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: medium, Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		return err
	})
}

func writePage(t *testing.T, d *Document) string {
	t.Helper()
	var b bytes.Buffer
	if err := WriteHTML(&b, d); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestPageInBrowser opens the page as its readers do: no error, no violation of its policy, no request but the page
// itself; styled, so the policy lets its own style in; readable on a phone, in the dark and on paper.
func TestPageInBrowser(t *testing.T) {
	ctx := browser(t)
	file := writePage(t, sampleDocument())
	var mu sync.Mutex
	var complaints, requests []string
	listen(t, ctx, func(ev any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := ev.(type) {
		case *log.EventEntryAdded:
			complaints = append(complaints, "log: "+e.Entry.Text)
		case *runtime.EventConsoleAPICalled:
			complaints = append(complaints, "console: "+string(e.Type))
		case *runtime.EventExceptionThrown:
			complaints = append(complaints, "exception: "+e.ExceptionDetails.Text)
		case *audits.EventIssueAdded:
			if e.Issue.Code == audits.InspectorIssueCodeContentSecurityPolicyIssue {
				complaints = append(complaints, "content security policy")
			}
		case *network.EventRequestWillBeSent:
			requests = append(requests, e.Request.URL)
		}
	})
	type seen struct {
		Card, Scripts, Ring, Open, Headings, Tables, Captions, Wide int
		Background, Text, Headline                                  string
		Rows                                                        int
	}
	const script = `({
		Card: document.querySelectorAll('.card').length, Scripts: document.scripts.length, Ring: document.querySelectorAll('.ring circle').length,
		Open: document.querySelectorAll('details[open]').length, Headings: document.querySelectorAll('h1').length,
		Tables: document.querySelectorAll('table').length, Captions: document.querySelectorAll('table > caption').length,
		Wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
		Background: getComputedStyle(document.body).backgroundColor, Text: document.body.innerText, Headline: document.getElementById('headline').innerText,
		Rows: [...document.querySelectorAll('#attacks tr.row')].filter(r => r.offsetHeight > 0).length,
	})`
	page := "file://" + file
	look := func(before ...chromedp.Action[chromedp.Void]) seen {
		t.Helper()
		if err := chromedp.Do(ctx, before...); err != nil {
			t.Fatal(err)
		}
		s, err := chromedp.Run(ctx, chromedp.Evaluate[seen](script))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	state := look(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(page))
	if state.Background != "rgb(245, 246, 248)" {
		t.Errorf("the body's background is %s: the style was not applied", state.Background)
	}
	if state.Headings != 1 || state.Scripts != 0 || state.Card < 4 || state.Ring < 5 || state.Tables == 0 || state.Tables != state.Captions {
		t.Errorf("the page's parts: %+v", state)
	}
	for _, want := range []string{"1 of 24 attacks got through; 21 blocked; 1 detected only; 1 without a clear answer; 3 not tried: no network plugin runs here.",
		"1 harmless twin was refused: a policy breaks honest work.", "A role grants every verb on every resource", "k8s/legacy/rbac.yaml:14", "Name the verbs and resources that the account needs.",
		"What this report does not show", "the cluster does not let us list them", "plain network policies cannot name a host", "too broad", "Waits for the rootless image", "Rests on one control", "<script>alert(1)</script>"} {
		if !strings.Contains(state.Text, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	all := state.Rows
	state = look(chromedp.Click(chromedp.CSS(`label[for="show-open"]`)))
	if all != 27 || state.Rows != 6 {
		t.Errorf("the filter shows %d of %d attacks as not blocked, want 6 of 27", state.Rows, all)
	}
	for _, width := range []int64{375, 768} {
		if state = look(chromedp.EmulateViewport(width, 800), chromedp.Navigate(page)); state.Wide > 0 {
			t.Errorf("at %d pixels the page is %d pixels too wide", width, state.Wide)
		}
	}
	if state = look(media("", "dark")); state.Background != "rgb(14, 19, 26)" {
		t.Errorf("in the dark the background is %s", state.Background)
	}
	look(chromedp.EmulateViewport(800, 800), media("print", "light"))
	folded, err := chromedp.Run(ctx, chromedp.Evaluate[int](`[...document.querySelectorAll('details.check td')].filter(e => e.offsetHeight === 0).length`))
	if err != nil {
		t.Fatal(err)
	}
	// A4 at 96 dpi is 1123 pixels high; the sample fits a dozen pages or so.
	if tall, err := chromedp.Run(ctx, chromedp.Evaluate[int](`document.documentElement.scrollHeight`)); err != nil || tall > 15000 {
		t.Errorf("on paper the page is %d pixels tall: %v", tall, err)
	}
	if folded > 0 {
		t.Errorf("on paper %d cells stay folded away", folded)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(complaints) > 0 {
		t.Errorf("the browser complains: %s", strings.Join(complaints, "; "))
	}
	for _, r := range requests {
		if r != page && !strings.HasPrefix(r, "data:") {
			t.Errorf("the page asks for %s", r)
		}
	}
}

// TestBrowserSeesViolations keeps the test above honest: a page whose style is not the one that its policy names must be
// complained about.
func TestBrowserSeesViolations(t *testing.T) {
	ctx := browser(t)
	file := writePage(t, sampleDocument())
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(b, []byte("<style>"), []byte("<style>/* other */"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	seen := make(chan string, 100)
	listen(t, ctx, func(ev any) {
		if e, ok := ev.(*log.EventEntryAdded); ok {
			select {
			case seen <- e.Entry.Text:
			default:
			}
		}
	})
	if err := chromedp.Do(ctx, chromedp.Navigate("file://"+file)); err != nil {
		t.Fatal(err)
	}
	background, err := chromedp.Run(ctx, chromedp.Evaluate[string](`getComputedStyle(document.body).backgroundColor`))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case s := <-seen:
		if !strings.Contains(s, "Content Security Policy") {
			t.Errorf("the browser says %q", s)
		}
	case <-time.After(10 * time.Second):
		t.Error("the browser did not see the violation")
	}
	if background == "rgb(245, 246, 248)" {
		t.Error("the style was applied against the policy")
	}
}
